"""How closely students follow their teachers: means over seeds, a row for each teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdcore.analysis import fidelity
from kdcore.analysis.comparison import compare
from kdcore.events import Probed
from tests.helpers.store_factory import run_config


def _measured(store: Any, run: str, agreement: float, spearman: float | None) -> None:
    answers = {"large": {"validation": {"agreement": agreement, "kl": 0.5}, "other": {"agreement": 0.0, "kl": 9.0}}}
    store.record(run, [Probed("fidelity", 9, answers)])
    if spearman is not None:
        words = {"large": {"spearman": spearman, "cosine": 0.25, "rows": 64}}
        store.record(run, [Probed("saliency", 9, {"split": "validation", "teachers": words})])


def test_a_group_is_the_mean_of_its_runs(store: Any, finish: Callable[..., str]) -> None:
    finish(run_config("fine-tune", 0), 0.7)
    for seed, agreement, spearman in ((0, 0.8, 0.4), (1, 0.9, 0.6)):
        _measured(store, finish(run_config("kd", seed), 0.7), agreement, spearman)
    _measured(store, finish(run_config("pkd", 0), 0.7), 0.6, None)
    found = fidelity.table(store, compare(store, store.runs())[0])
    assert list(found["teacher"]) == ["large", "large"]
    by_group = found.set_index("method and student")
    kd, pkd = by_group.loc["KD, 2 x 32"], by_group.loc["Patient KD, 2 x 32"]
    assert (kd["runs"], pkd["runs"]) == (2, 1)
    assert kd["same label"] == pytest.approx(0.85) and kd["KL (nats)"] == 0.5
    assert kd["saliency loyalty (rank)"] == pytest.approx(0.5) and kd["saliency loyalty (cosine)"] == 0.25
    assert pkd["same label"] == 0.6 and pkd["saliency loyalty (rank)"] != pkd["saliency loyalty (rank)"]
    assert "Pearson's r" not in found and "squared difference" not in found


def test_runs_that_were_not_measured_have_no_row(store: Any, finish: Callable[..., str]) -> None:
    finish(run_config("fine-tune", 0), 0.7)
    assert fidelity.table(store, compare(store, store.runs())[0]).empty


def test_words_without_a_number_are_no_zero(store: Any, finish: Callable[..., str]) -> None:
    run = finish(run_config("kd", 0), 0.7)
    _measured(store, run, 0.8, None)
    store.record(run, [Probed("saliency", 9, {"teachers": {"large": {"spearman": None, "cosine": None, "rows": 0}}})])
    assert "saliency loyalty (rank)" not in fidelity.table(store, compare(store, store.runs())[0])
