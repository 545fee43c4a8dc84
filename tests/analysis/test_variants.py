"""Groups that are another one but for one setting, and what that setting brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from kdcore.analysis.comparison import Comparison, compare
from kdcore.analysis.variants import unfinished, variants
from kdcore.config import RunConfig
from kdcore.identity import group_key
from kdcore.runs.ablations import ablations
from kdcore.store import Store
from tests.helpers.store_factory import run_config

Finish = Callable[..., str]
OPTIONS = {"alpha": 0.5, "temperature": 10.0, "beta": 500.0}


def _pkd(seed: int = 0, **more: Any) -> RunConfig:
    options = OPTIONS | more.pop("options", {})
    return run_config("pkd", seed, options=options, **more)


def _compare(store: Store) -> Comparison:
    (comparison,) = compare(store, store.runs())
    return comparison


def _finish_all(finish: Finish, scores: dict[float, list[float]]) -> None:
    for beta, of_seed in scores.items():
        for seed, score in enumerate(of_seed):
            finish(_pkd(seed, options={"beta": beta}), score)


def test_the_change_is_seed_by_seed_with_the_interval_of_the_paired_t_test(store: Store, finish: Finish) -> None:
    whole, without = [0.80, 0.84, 0.79], [0.75, 0.78, 0.77]
    _finish_all(finish, {500.0: whole, 0.0: without})
    (row,) = variants(_compare(store), group_key(_pkd())).to_dict("records")
    wanted = stats.ttest_rel(without, whole).confidence_interval(0.95)
    assert (row["label"], row["setting"], row["whole_value"], row["value"]) == ("beta 0", "options.beta", "500", "0")
    assert row["change"] == pytest.approx(np.mean(without) - np.mean(whole))
    assert (row["low"], row["high"]) == pytest.approx((wanted.low, wanted.high))
    assert row["n"] == 3 and row["seeds"] == "0, 1, 2"


def test_only_shared_seeds_count(store: Store, finish: Finish) -> None:
    _finish_all(finish, {500.0: [0.8, 0.9], 0.0: [0.7]})
    (row,) = variants(_compare(store), group_key(_pkd())).to_dict("records")
    assert row["change"] == pytest.approx(-0.1) and np.isnan(row["low"]) and row["n"] == 1


def test_seeds_of_other_machines_are_no_pairs(store: Store, finish: Finish) -> None:
    elsewhere = {"kdcore": "0.2.0", "hardware": "another", "device": "cpu"}
    whole, without = [0.80, 0.84, 0.79], [0.75, 0.78]
    _finish_all(finish, {500.0: whole})
    for seed, score in enumerate(without):
        finish(_pkd(seed, options={"beta": 0.0}), score, elsewhere)
    (row,) = variants(_compare(store), group_key(_pkd())).to_dict("records")
    wanted = stats.ttest_ind(without, whole, equal_var=False).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((wanted.low, wanted.high))


def test_a_group_that_differs_in_more_or_in_its_training_is_none(store: Store, finish: Finish) -> None:
    finish(_pkd(), 0.8)
    finish(_pkd(options={"beta": 0.0, "alpha": 0.1}), 0.7)
    finish(_pkd(train={"epochs": 2, "seed": 0, "max_length": 32}), 0.7)
    finish(run_config("kd", options={"alpha": 0.5, "temperature": 10.0}), 0.7)
    assert variants(_compare(store), group_key(_pkd())).empty


def test_an_ablation_is_called_what_it_is(store: Store, finish: Finish) -> None:
    whole = _pkd(student={"layers": 2, "width": 32, "heads": 2, "init": "teacher"})
    found = {one.part: one for one in ablations(whole)}
    complete = whole.model_copy(update={"options": found["patience"].run.options | {"beta": 500.0}})
    finish(complete, 0.8)
    for part, score in (("patience", 0.7), ("initial weights", 0.6)):
        store.annotate(finish(found[part].run, score), tags=["mine", *found[part].tags])
    waits = found["soft"].run
    store.annotate(store.add_run(waits), tags=found["soft"].tags)
    comparison = _compare(store)
    rows = variants(comparison, group_key(complete))
    assert rows["label"].tolist() == ["from random weights", "without patience (beta 0)", "without soft (alpha 0)"]
    assert rows["change"].tolist()[:2] == pytest.approx([-0.2, -0.1]) and np.isnan(rows["change"].iloc[2])
    assert unfinished(comparison, rows) == 1


def test_an_ablation_of_a_run_whose_options_stay_unsaid_is_found_by_its_tag(store: Store, finish: Finish) -> None:
    whole = run_config("pkd")
    patience = next(one for one in ablations(whole) if one.part == "patience")
    finish(whole, 0.8)
    run = finish(patience.run, 0.7)
    assert variants(_compare(store), group_key(whole)).empty
    store.annotate(run, tags=patience.tags)
    assert variants(_compare(store), group_key(whole))["label"].tolist() == ["without patience"]
