"""What is in the rows: counts, shares, repeats and contradictions, each worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kdcore.config import DataConfig, TrainConfig
from kdcore.data.damage import learning_rows
from kdcore.data.row_report import (
    LENGTH_ROWS,
    contradicting_rows,
    cut_share,
    majority_share,
    missing_classes,
    repeated_rows,
    row_report,
    token_lengths,
)
from kdcore.data.splits import Split, TaskData, make_split
from kdcore.tasks import TASKS, Task

TASK = Task("own", "table.csv", "own", ("text",), "classification", ("a", "b", "c"), ("accuracy", "f1"))


def split(texts: list[str], labels: list[Any], task: Task = TASK, name: str = "train") -> Split:
    return make_split(task, name, (texts,), np.array(labels))


def dataset(train: Split, dev: Split, task: Task = TASK) -> TaskData:
    return TaskData(task, {"train": train, "validation": dev}, "", "a test")


def test_every_question_of_classes() -> None:
    train = split([f"row {i}" for i in range(38)] + ["twice", "Twice "], [0] * 30 + [1] * 8 + [0, 1])
    dev = split(["row 3", "  ROW 4", "new"], [0, 0, 1], name="validation")
    data = dataset(train, dev)
    report = row_report(data, learning_rows(data, TrainConfig(), DataConfig()), 4, {"train": np.array([4, 5, 6, 3])})
    assert report.rows == {"train": 36, "select": 4, "validation": 3}
    assert report.counts["train"].sum() == 36
    assert (report.counts["train"] + report.counts["select"]).tolist() == [31, 9, 0]
    assert report.majority == pytest.approx(report.counts["train"][0] / 36)
    assert report.cut == {"train": 0.5}
    assert (report.repeated, report.contradicting) == ({"validation": 2}, 2)
    assert report.missing == {"select": ("c",), "validation": ("c",)}
    assert report.scores is None


def test_scores_have_a_range_and_no_classes() -> None:
    task = replace(TASK, kind="regression", labels=(), metrics=("pearson",))
    train = split([f"row {i}" for i in range(20)], [float(i) for i in range(20)], task)
    data = dataset(train, split(["row 1"], [5.0], task, "validation"), task)
    report = row_report(data, learning_rows(data, TrainConfig(), DataConfig()), 8, {})
    assert report.scores is not None
    assert (report.majority, report.counts, report.missing, report.contradicting) == (None, {}, {}, 0)
    assert report.scores.highest >= 18
    assert report.repeated == {"validation": 1}


def test_shares() -> None:
    assert majority_share(np.array([3, 1, 0])) == 0.75
    assert cut_share(np.array([8, 9]), 8) == 0.5
    assert cut_share(np.array([], np.int64), 8) == 0.0
    counts = {"train": np.array([1, 0]), "select": np.array([0, 1]), "validation": np.array([1, 1])}
    assert missing_classes(counts, ("a", "b")) == {"select": ("a",)}


def test_pairs_are_equal_only_as_pairs() -> None:
    task = TASKS["mrpc"]
    train = make_split(task, "train", (["one", "two"], ["x", "y"]), np.array([0, 1]))
    dev = make_split(task, "validation", (["one", "two"], ["x", "x"]), np.array([0, 1]))
    assert repeated_rows(dev, [train]) == 1
    assert contradicting_rows([train]) == 0


def test_lengths_are_those_before_the_cut_of_rows_taken_evenly() -> None:
    def tokenizer(*columns: list[str], truncation: bool, **_: Any) -> Any:
        assert not truncation
        ids = [[0] * (2 + sum(len(text.split()) for text in row)) for row in zip(*columns, strict=True)]
        return {"input_ids": ids}

    words = ["word " * (i % 700) for i in range(3 * LENGTH_ROWS)]
    data = dataset(split(words, [0] * len(words)), split(["a b"], [0], name="validation"))
    lengths = token_lengths(data, tokenizer)
    assert {name: len(each) for name, each in lengths.items()} == {"train": LENGTH_ROWS, "validation": 1}
    assert lengths["validation"].tolist() == [4]
    assert lengths["train"].max() > 600
