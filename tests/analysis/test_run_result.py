"""What one run came to: shares, gains and ratios, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdcore.analysis.run_result import RunResult, latency_ratio, run_result
from tests.helpers.store_factory import add, run_config


def _latency(student: float, teacher: float, busy: bool = False) -> dict[str, Any]:
    rows = [("student", 32, 9.0), ("student", 1, student), ("large", 1, teacher), ("large", 32, 1.0)]
    return {
        "latency": {"records": [{"name": n, "batch": b, "median_ms": ms, "busy": busy} for n, b, ms in rows]}
    }  # fmt: skip


def test_a_run_beside_its_teacher_and_training_alone(store: Any) -> None:
    add(store, run_config("fine-tune"), score=0.70)
    add(store, run_config("fine-tune", 1), score=0.10)
    run = add(store, run_config("kd"), score=0.744)
    result = run_result(store, store.runs(), run)
    assert (result.metric, result.teacher, result.busy) == ("accuracy", "large", False)
    assert result.score == pytest.approx(0.744) and result.teacher_score == pytest.approx(0.93)
    assert result.share == pytest.approx(0.8) and result.gain == pytest.approx(0.044)
    assert result.ratio == pytest.approx(2.4 / 0.7)


def test_what_is_not_known_is_none(store: Any) -> None:
    alone = add(store, run_config("fine-tune"))
    result = run_result(store, store.runs(), alone)
    assert result.teacher == "" and result.share is result.gain is result.ratio is None
    waits = add(store, run_config("kd"), end="queued")
    assert run_result(store, store.runs(), waits).score is None


def test_a_ratio_is_of_single_rows_and_says_where_the_machine_was_busy() -> None:
    assert latency_ratio(_latency(2.0, 5.0), "large") == (2.5, False)
    assert latency_ratio(_latency(2.0, 5.0, busy=True), "large") == (2.5, True)
    assert latency_ratio(_latency(2.0, 5.0), "small") == (None, False)
    assert latency_ratio({}, "large") == (None, False)


def test_a_teacher_at_nothing_has_no_share() -> None:
    assert RunResult("matthews", 0.3, "large", 0.0).share is None


def test_gain_comes_from_the_comparison(store: Any, finish: Callable[..., str]) -> None:
    """Another machine's run of training alone is no pair."""
    finish(run_config("fine-tune"), 0.7, {"kdcore": "0.2.0", "hardware": "Other", "device": "cpu"})
    run = finish(run_config("kd"), 0.8)
    assert run_result(store, store.runs(), run).gain is None
