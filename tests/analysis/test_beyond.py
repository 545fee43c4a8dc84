"""Curves over damage: which runs are on them, what is missing, areas and ranks against values by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdcore.analysis import beyond
from kdcore.analysis.beyond import Curves, SeedPairs
from kdcore.analysis.comparison import ENVIRONMENT, compare
from kdcore.events import Probed
from tests.helpers.kept_answers import GOLD, answers, keep
from tests.helpers.store_factory import add, run_config


def made(store: Any, method: str, seed: int, skill: float, **more: Any) -> str:
    ours = answers(skill, seed)
    run = add(store, run_config(method, seed, **more), score=float((ours.argmax(1) == GOLD).mean()))
    keep(run, {"student": ours} | ({"large": answers(skill + 0.1, 50)} if method != "fine-tune" else {}))
    return run


@pytest.fixture
def noisy(store: Any) -> list[str]:
    """KD and fine-tuning at two levels of wrong labels, two seeds; returns the undamaged runs."""
    runs = [
        made(store, method, seed, skill - level, **({"data": {"label_noise": level}} if level else {}))
        for level in (0.0, 0.2)
        for method, skill in (("kd", 0.85), ("fine-tune", 0.8))
        for seed in (0, 1)
    ]
    return runs[:4]


def curves_of(store: Any, chosen: list[str], damage: str = "label_noise", **more: Any) -> Curves:
    everything = store.runs()
    (comparison,) = compare(store, everything[everything["id"].isin(chosen)])
    return beyond.of_training(store, everything, comparison, damage, **more)


def test_a_line_holds_the_same_settings_on_other_data(store: Any, noisy: list[str]) -> None:
    made(store, "kd", 0, 0.5, data={"label_noise": 0.2, "imbalance": 0.2})  # two damages at once
    made(store, "kd", 0, 0.5, data={"label_noise": 0.4, "teacher_data": "clean"})
    made(store, "kd", 0, 0.5, data={"label_noise": 0.4, "seed": 3})
    made(store, "kd", 0, 0.5, data={"label_noise": 0.4}, options={"temperature": 3})
    curves = curves_of(store, noisy)
    students = curves.rows[curves.rows["method"] != "teacher"]
    assert students.groupby("label")["level"].apply(list).to_dict() == {
        "KD, 2 x 32": [0.0, 0.0, 0.2, 0.2], "Fine-tuning alone, 2 x 32": [0.0, 0.0, 0.2, 0.2],
    }  # fmt: skip
    assert curves.levels == {0.0: 0.0, 0.2: 0.2}
    teachers = curves.rows[curves.rows["method"] == "teacher"]
    assert list(teachers["level"]) == [0.0, 0.2]
    assert teachers["score"].iloc[0] == pytest.approx((answers(0.95, 50).argmax(1) == GOLD).mean())
    assert students[["ece", "brier", "nll"]].notna().all(axis=None)


def test_chosen_damaged_runs_draw_the_same_lines(store: Any, noisy: list[str]) -> None:
    whole = curves_of(store, noisy)
    also = curves_of(store, [*store.runs()["id"]])
    pd.testing.assert_frame_equal(also.rows, whole.rows)


def test_missing_levels_are_runs_to_queue(store: Any, noisy: list[str]) -> None:
    missing = curves_of(store, noisy).missing
    assert sorted((run.method, run.train.seed, run.data.label_noise) for run in missing) == [
        (method, seed, level) for method in ("fine-tune", "kd") for seed in (0, 1) for level in (0.1, 0.4)
    ]
    clean = curves_of(store, noisy, clean_teacher=True)
    assert {(run.method, run.data.label_noise, run.data.teacher_data) for run in clean.missing} == {
        *(("kd", level, "clean") for level in (0.1, 0.2, 0.4)),
        *(("fine-tune", level, "same") for level in (0.1, 0.4)),  # its teachers, whom it never asks, are no difference
    }
    rare = curves_of(store, noisy, "imbalance")
    assert {run.data.imbalance for run in rare.missing} == {0.2, 0.05} and list(rare.levels) == [0.0]


def test_damaged_sentences_come_from_what_was_measured(store: Any, noisy: list[str]) -> None:
    records = [{"severity": s, "score": 0.9 - s, "ece": s, "brier": s, "nll": s} for s in (0.0, 0.4)]
    models = {"student": {"typos": records}, "large": {"typos": records}}
    for run in noisy[:2]:
        store.record(run, [Probed("robustness", 60, {"models": models})])
    (comparison,) = compare(store, store.runs()[store.runs()["id"].isin(noisy)])
    rows = beyond.of_sentences(store, comparison, "typos").rows
    assert rows["label"].value_counts().to_dict() == {"KD, 2 x 32": 4, "teacher large": 2}
    assert beyond.of_sentences(store, comparison, "dropped words").rows.empty


def planted() -> Curves:
    """Two methods, two seeds, three levels; b also has a fourth one."""
    values = {"a": [0.9, 0.8, 0.6], "b": [0.8, 0.8, 0.7, 0.1], "teacher t": [1.0, 0.9, 0.8]}
    rows = [
        {"label": label, "method": "teacher" if label == "teacher t" else label, "key": label, "run": label,
         "seed": seed, "severity": place, "level": place, "score": value + 0.01 * seed, "ece": 1 - value}
        for label, heights in values.items()
        for place, value in zip((0.0, 0.1, 0.4, 0.6), heights, strict=False)
        for seed in (0, 1)
    ]  # fmt: skip
    return Curves(pd.DataFrame(rows).assign(**dict.fromkeys(ENVIRONMENT, "")))


def test_areas_and_ranks_by_hand() -> None:
    table = beyond.areas(planted(), "score").set_index("label")
    assert list(table.index) == ["teacher t", "b", "a"], "the best area first"
    area = (0.1 * (0.9 + 0.8) / 2 + 0.3 * (0.8 + 0.6) / 2) / 0.4
    assert table.loc["a", "area"] == pytest.approx(area + 0.005)
    assert (table.loc["a", "first"], table.loc["a", "worst"]) == pytest.approx((0.905, 0.605))
    assert table.loc["a", "rank"] == pytest.approx((1 + 1.5 + 2) / 3) and np.isnan(table.loc["teacher t", "rank"])
    assert set(table["seeds"]) == {2} and beyond.shared_levels(planted(), "score") == [0.0, 0.1, 0.4]
    assert list(beyond.areas(planted(), "ece")["label"]) == ["teacher t", "b", "a"], "less of it is better"


def test_the_verdict_pairs_areas_by_seed() -> None:
    verdict = beyond.area_verdict(planted(), "b", "a")
    assert verdict.seeds == (0, 1) and not verdict.enough
    areas = beyond.areas(planted(), "score").set_index("label")["area"]
    assert verdict.gap == pytest.approx(areas["b"] - areas["a"])


def test_seeds_of_several_machines_are_no_pairs_over_all_methods() -> None:
    curves = planted()
    assert beyond.seed_pairs(curves, "score") == SeedPairs((0, 1), (), ())
    rows = curves.rows
    other = (rows["label"] == "b") & (rows["seed"] == 1)
    assert beyond.seed_pairs(Curves(rows.assign(machine=np.where(other, "B", ""))), "score") == SeedPairs(
        (0,), (1,), ()
    )
    worst = (rows["seed"] == 0) & (rows["severity"] == 0.4) & (rows["label"] == "a")
    assert beyond.seed_pairs(Curves(rows.assign(version=np.where(worst, "2", ""))), "score") == SeedPairs(
        (1,), (0,), ()
    )
    assert beyond.seed_pairs(Curves(rows[~other]), "score") == SeedPairs((0,), (), (1,))
    assert beyond.seed_pairs(Curves(rows[rows["method"] == "teacher"]), "score") == SeedPairs((), (), ())


def test_places_on_the_axis() -> None:
    assert beyond.place("label_noise", 0.2) == 0.2 and beyond.place("typos", 0.4) == 0.4
    assert beyond.place("imbalance", 1.0) == 0 and beyond.place("label_fraction", 0.25) == 2
