"""The average over tasks, by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from kdcore.analysis.comparison import compare
from kdcore.analysis.task_average import by_seed, common_tasks, describe, glue_average
from kdcore.analysis.task_table import by_task
from kdcore.tasks import GLUE
from tests.helpers.store_factory import add, run_config


def _scores(*rows: tuple[str, str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["setting", "task", "seed", "score"])


BOTH = _scores(
    ("a", "rte", 0, 0.6), ("a", "mrpc", 0, 0.8), ("a", "rte", 1, 0.7), ("a", "mrpc", 1, 0.9), ("a", "sst2", 0, 0.95),
    ("b", "mrpc", 0, 0.7), ("b", "rte", 0, 0.5),
)  # fmt: skip


def test_only_tasks_of_every_setting_count_in_the_tables_order() -> None:
    assert common_tasks(BOTH) == ("mrpc", "rte")
    assert common_tasks(_scores(("a", "rte", 0, 0.5), ("b", "mrpc", 0, 0.5))) == ()
    assert common_tasks(_scores(("a", "rte", 0, 0.5), ("b", "rte", 0, math.nan))) == ()
    assert common_tasks(_scores(("a", "own", 0, 0.5), ("a", "rte", 0, 0.5))) == ("rte", "own")
    assert common_tasks(BOTH.iloc[:0]) == ()


def test_the_mean_is_taken_within_a_seed_and_spread_over_seeds() -> None:
    table = glue_average(BOTH).set_index("setting")
    assert table.loc["a", "average"] == pytest.approx(0.75)  # seeds: 0.7 and 0.8
    assert table.loc["a", "std"] == pytest.approx(0.05 * 2**0.5) and table.loc["a", "n"] == 2
    assert table.loc["b", "average"] == pytest.approx(0.6)
    assert math.isnan(table.loc["b", "std"]) and table.loc["b", "n"] == 1


def test_spreads_of_tasks_that_cancel_out_do_not_add_up() -> None:
    table = glue_average(_scores(*(("a", t, s, v) for t, s, v in [("rte", 0, 0.6), ("rte", 1, 0.8), ("mrpc", 0, 0.8),
                                                                   ("mrpc", 1, 0.6)])))  # fmt: skip
    assert table["average"].tolist() == pytest.approx([0.7]) and table["std"].tolist() == pytest.approx([0.0])


def test_a_seed_that_lacks_a_task_does_not_count() -> None:
    rows = _scores(("a", "rte", 0, 0.6), ("a", "mrpc", 1, 0.8), ("b", "rte", 0, 0.5), ("b", "mrpc", 0, 0.7))
    table = glue_average(rows).set_index("setting")
    assert math.isnan(table.loc["a", "average"]) and table.loc["a", "n"] == 0
    assert table.loc["b", "average"] == pytest.approx(0.6)
    assert by_seed(rows, ("mrpc", "rte")).to_dict("records") == [
        {"setting": "b", "seed": 0, "average": pytest.approx(0.6)}
    ]


def test_two_runs_of_one_seed_count_as_their_mean_and_tasks_may_be_named() -> None:
    rows = _scores(("a", "rte", 0, 0.4), ("a", "rte", 0, 0.6), ("a", "mrpc", 0, 0.9))
    assert glue_average(rows)["average"].tolist() == pytest.approx([0.7])
    assert glue_average(rows, ["rte"])["average"].tolist() == pytest.approx([0.5])
    assert glue_average(rows, ["sst2"])["n"].tolist() == [0]


def test_nothing_gives_nothing() -> None:
    assert glue_average(BOTH.iloc[:0]).empty
    assert list(glue_average(BOTH.iloc[:0]).columns) == ["setting", "average", "std", "n"]


def test_words_say_which_tasks_and_that_it_is_partial() -> None:
    assert describe(["mrpc", "rte"]) == "mean over MRPC and RTE (2 of GLUE's 9 tasks: a partial average)"
    assert "partial" not in describe(GLUE)
    assert "no GLUE average" in describe(["pocket-sentiment", "pocket-entailment"])
    assert "synthetic" in describe(["pocket-sentiment"])


def test_tasks_stand_side_by_side_with_an_average(store: Any) -> None:
    made = {}
    for method, task, epochs, score in (
        ("kd", "pocket-sentiment", 1, 0.8),
        ("kd", "pocket-entailment", 2, 0.6),  # epochs belong to the task here, so they tell no rows apart
        ("fine-tune", "pocket-sentiment", 1, 0.7),
    ):
        train = {"epochs": epochs, "seed": 0, "max_length": 32}
        made[method, task] = add(store, run_config(method, task=task, train=train), score=score)
    table, average = by_task(compare(store, store.runs()))
    table = table.set_index("method and student")
    assert table.loc["KD, 2 x 32", "Pocket entailment"] == "60.0 (N=1)"
    assert table.loc["Fine-tuning alone, 2 x 32", "Pocket entailment"] == "–"
    assert set(table["average"]) == {"–"} and average == "no two tasks were run by all"
    train = {"epochs": 2, "seed": 0, "max_length": 32}
    add(store, run_config("fine-tune", task="pocket-entailment", train=train), score=0.5)
    add(store, run_config("kd", task="pocket-paraphrase"), score=0.9)
    table, average = by_task(compare(store, store.runs()))
    assert table["method and student"].tolist() == ["KD, 2 x 32", "Fine-tuning alone, 2 x 32"]
    assert table["average"].tolist() == ["70.0 (N=1)", "60.0 (N=1)"], "over the two tasks that both have"
    assert average == "mean over Pocket sentiment and Pocket entailment (synthetic, no GLUE average)"
