"""Logged values as curves, and two runs on one clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdcore.analysis import race, series
from tests.helpers.store_factory import add, run_config


def test_rows_seen_are_steps_times_rows_a_step() -> None:
    points = pd.DataFrame({"run": ["a", "b"], "step": [10, 10]})
    sizes = {"a": {"train": {"batch_size": 32}}, "b": {"train": {"batch_size": 8}}}
    seen = series.with_rows_seen(points, sizes, {"a": {"mean_tokens": 12.5}, "b": {}})
    assert seen["examples"].tolist() == [320, 80]
    assert seen["tokens"][0] == 4000 and np.isnan(seen["tokens"][1])


def _points(*rows: tuple[str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["run", "step", "value"])


def test_two_quantities_meet_at_the_same_step_of_the_same_run() -> None:
    x = _points(("a", 1, 0.1), ("a", 2, 0.2), ("b", 2, 0.9))
    y = _points(("b", 2, 9.0), ("a", 3, 3.0), ("a", 2, 2.0))
    rows = series.join(x, y)
    assert rows.to_numpy().tolist() == [["a", 2, 0.2, 2.0], ["b", 2, 0.9, 9.0]]


@pytest.mark.parametrize("side", ["x", "y"])
def test_beside_a_score_stands_the_last_value_logged_up_to_its_step(side: Any) -> None:
    logged = _points(("a", 10, 1.0), ("a", 20, 2.0), ("b", 5, 5.0))
    scores = _points(("a", 5, 50.0), ("a", 19, 60.0), ("a", 20, 70.0), ("b", 40, 80.0))
    rows = series.join(*((logged, scores) if side == "x" else (scores, logged)), side)
    other = "y" if side == "x" else "x"
    found = rows[rows[side].notna()]
    assert found[["run", "step", side, other]].to_numpy().tolist() == [
        ["a", 19, 1.0, 60.0], ["a", 20, 2.0, 70.0], ["b", 40, 5.0, 80.0]
    ]  # fmt: skip


def test_a_track_keeps_the_order_of_the_steps() -> None:
    runs = pd.DataFrame(
        {"id": ["a", "b"], "name": "n", "group": "g", "method": "kd", "label": "KD", "seed": [3.0, float("nan")]}
    )
    rows = series.join(_points(("a", 2, 1.0), ("a", 1, 5.0)), _points(("a", 1, 7.0), ("a", 2, 8.0)))
    (track,) = series.tracks(runs, rows)
    assert (track.step.tolist(), track.x.tolist(), track.y.tolist()) == ([1, 2], [5.0, 1.0], [7.0, 8.0])
    assert track.seed == 3


def test_the_race_has_scores_and_losses_on_one_clock(store: Any) -> None:
    run = add(store, run_config("kd"), score=0.8)
    runner = race.racer(run, "kd", "KD", store.evaluations(run), store.metrics(run, ["loss"]), "accuracy")
    assert runner is not None and runner.end == pytest.approx(0.6)
    assert runner.scores.steps.tolist() == [20, 40, 60] and len(runner.losses.values) == 60
    assert runner.scores.clock.tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert race.racer(run, "kd", "KD", store.evaluations(run), store.metrics([]), "accuracy") is None
