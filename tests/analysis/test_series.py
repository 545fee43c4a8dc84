"""Logged values as curves, and two runs on one clock."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from kdcore.analysis import race, series
from tests.helpers.store_factory import add, run_config


def test_rows_seen_are_steps_times_rows_a_step() -> None:
    points = pd.DataFrame({"run": ["a", "b"], "step": [10, 10]})
    seen = series.with_rows_seen(points, {"a": {"train": {"batch_size": 32}}, "b": {"train": {"batch_size": 8}}})
    assert seen["examples"].tolist() == [320, 80]


def test_the_race_has_scores_and_losses_on_one_clock(store: Any) -> None:
    run = add(store, run_config("kd"), score=0.8)
    runner = race.racer(run, "kd", "KD", store.evaluations(run), store.metrics(run, ["loss"]), "accuracy")
    assert runner is not None and runner.end == pytest.approx(0.6)
    assert runner.scores.steps.tolist() == [20, 40, 60] and len(runner.losses.values) == 60
    assert runner.scores.clock.tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert race.racer(run, "kd", "KD", store.evaluations(run), store.metrics([]), "accuracy") is None
