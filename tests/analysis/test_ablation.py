"""Where a score comes from: the ladder, which groups are its steps, and the gain of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdcore.analysis import ablation
from kdcore.analysis.comparison import Comparison, compare
from kdcore.config import RunConfig
from kdcore.identity import group_key
from kdcore.store import Store
from tests.helpers.store_factory import run_config

BASE = {"init": "base", "layers": 3, "width": None, "heads": None}
TEACHER = {"name": "big", "source": "package", "where": "minilm", "fine_tune": {}}
Finish = Callable[..., str]


def _compare(store: Store) -> Comparison:
    (comparison,) = compare(store, store.runs())
    return comparison


def _mean(table: pd.DataFrame, label: str) -> float:
    return float(table.set_index("label")["mean"][label])


def _glue(method: str, init: str, **more: Any) -> RunConfig:
    settings = {"student": BASE | {"init": init}, "teachers": [TEACHER], "task": "mrpc"}
    return run_config(method, **(settings | more))


def test_the_ladder_changes_one_thing_a_step() -> None:
    rungs = ablation.ladder(_glue("pkd", "teacher", options={"temperature": 7.0, "alpha": 0.3}))
    assert [(rung.config.method, rung.config.student.init, rung.kind) for rung in rungs] == [
        ("fine-tune", "random", "start"),
        ("fine-tune", "base", "initialisation"),
        ("fine-tune", "teacher", "initialisation"),
        ("kd", "teacher", "teacher"),
        ("pkd", "teacher", "method"),
    ]
    assert rungs[3].config.options["temperature"] == 7.0 and rungs[3].config.options["alpha"] == 0.3
    assert [rung.config.student.init for rung in ablation.ladder(_glue("kd", "base"))] == ["random", "base", "base"]
    assert [rung.config.method for rung in ablation.ladder(run_config("kd"))] == ["fine-tune", "kd"]


def test_steps_are_found_by_their_settings(store: Store, finish: Finish) -> None:
    top, alone = _glue("pkd", "base"), _glue("fine-tune", "base", teachers=[], base=TEACHER)
    for config in (top, alone, alone.model_copy(update={"train": alone.train.model_copy(update={"seed": 1})})):
        finish(config, 0.5)
    finish(alone.model_copy(update={"train": alone.train.model_copy(update={"lr": 0.5})}), 0.5)
    comparison = _compare(store)
    group = group_key(alone)
    assert [rung.group for rung in ablation.climb(comparison, group_key(top))] == ["", group, "", group_key(top)]


def test_steps_are_of_the_comparison_only(store: Store, finish: Finish) -> None:
    top = finish(run_config("kd"), 0.5)
    finish(run_config("fine-tune"), 0.5)
    frame = store.runs()
    (comparison,) = compare(store, frame[frame["id"] == top])
    assert [rung.group for rung in ablation.climb(comparison, comparison.baseline)] == ["", comparison.baseline]


def test_kd_from_fewer_teachers_is_said(store: Store, finish: Finish) -> None:
    pocket = [{"name": name, "source": "pocket", "where": name} for name in ("large", "small")]
    top, fewer = run_config("skd", teachers=pocket), run_config("kd", teachers=pocket[:1])
    for config in (top, fewer):
        finish(config, 0.5)
    rungs = ablation.climb(_compare(store), group_key(top))
    assert rungs[1].group == group_key(fewer) and rungs[1].label == "+ the teacher's answers (KD from large)"


def test_shared_settings_are_those_of_kd() -> None:
    from kdcore.methods import METHODS

    assert set(ablation.LOGITS_SETTINGS) == set(METHODS[ablation.LOGITS].Config.model_fields)


def test_gains_are_over_shared_seeds_and_the_last_step_that_was_run() -> None:
    top = _glue("pkd", "base")
    rungs = [
        ablation.Rung("start", "alone", top, "a"),
        ablation.Rung("teacher", "+ kd", top),
        ablation.Rung("method", "+ pkd", top, "p"),
    ]
    finished = pd.DataFrame(
        [("a", 0, 0.1), ("a", 1, 0.5), ("p", 1, 0.8), ("p", 2, 0.9)], columns=["group", "seed", "score"]
    )
    rows = ablation.table(rungs, finished)
    assert _mean(rows, "alone") == 0.5 and math.isnan(_mean(rows, "+ kd")) and _mean(rows, "+ pkd") == 0.8
    assert rows["gain"].iloc[2] == pytest.approx(0.3) and rows["over"].iloc[2] == "alone"
    assert np.isnan(rows["low"].iloc[2]), "one seed has no interval"
    assert ablation.summary(rows) == "+30.0 points (one seed) over alone without a teacher."


def test_an_interval_is_that_of_the_paired_t_test() -> None:
    before, after = {0: 0.50, 1: 0.60, 2: 0.55}, {0: 0.53, 1: 0.64, 2: 0.57}
    gain, low, high = ablation.difference(after, before)
    wanted = stats.ttest_rel(list(after.values()), list(before.values())).confidence_interval(0.95)
    assert gain == pytest.approx(0.03) and (low, high) == pytest.approx((wanted.low, wanted.high))
    other = {7: 0.53, 8: 0.64}
    gain, low, high = ablation.difference(other, before)
    wanted = stats.ttest_ind(list(other.values()), list(before.values()), equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx((wanted.low, wanted.high)) and low < gain < high
    assert ablation.difference({0: 0.5, 1: 0.6}, {0: 0.4, 1: 0.5})[1:] == pytest.approx((0.1, 0.1))


def test_the_summary_names_each_part_and_its_doubt() -> None:
    top = _glue("pkd", "base")
    rungs = [
        ablation.Rung("start", "Gold labels, random initial weights", top, "a"),
        ablation.Rung("initialisation", "+ base", top, "b"),
        ablation.Rung("teacher", "+ kd", top, "k"),
        ablation.Rung("method", "+ pkd", top, "p"),
    ]
    scores = {"a": (0.50, 0.51, 0.49), "b": (0.60, 0.612, 0.588), "k": (0.61, 0.60, 0.62), "p": (0.70, 0.70, 0.70)}
    finished = pd.DataFrame(
        [(group, seed, score) for group, of_seed in scores.items() for seed, score in enumerate(of_seed)],
        columns=["group", "seed", "score"],
    )
    assert ablation.summary(ablation.table(rungs, finished)) == (
        "+20.0 points over random initial weights without a teacher: the initial weights +10.0, the teacher +1.0 "
        "(within seed noise), the method +9.0."
    )
