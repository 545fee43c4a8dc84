"""Who trains and who decides: ids, `select`, and subsets that do not depend on a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcore.data.splits import IDS_PER_SPLIT, TaskData, fingerprint, make_split, spread, train_and_select
from kdcore.errors import UserError
from kdcore.tasks import TASKS


def task_data(labels: list[float], key: str = "mrpc", dev: int = 3) -> TaskData:
    task = TASKS[key]
    splits = {}
    for name, values in {"train": labels, **dict.fromkeys(task.splits, labels[:dev])}.items():
        texts = tuple([f"{column} {name} {i}" for i in range(len(values))] for column in task.columns)
        splits[name] = make_split(task, name, texts, np.array(values))
    return TaskData(task, splits, fingerprint(task, splits), "test")


def test_ids_are_unique_over_the_data_set() -> None:
    data = task_data([0, 1, 2] * 4, key="mnli")
    ids = np.concatenate([split.ids for split in data.splits.values()])
    assert len(set(ids.tolist())) == len(ids)
    assert data.splits["validation_matched"].ids.tolist() == [IDS_PER_SPLIT + row for row in range(3)]
    assert data.splits["validation_mismatched"].ids.tolist() == [2 * IDS_PER_SPLIT + row for row in range(3)]


def test_taken_rows_keep_texts_labels_and_ids_together() -> None:
    split = task_data([0, 1, 1, 0, 1]).train.take(np.array([3, 1]))
    assert split.texts == (["sentence1 train 3", "sentence1 train 1"], ["sentence2 train 3", "sentence2 train 1"])
    assert split.labels.tolist() == [0, 1]
    assert split.ids.tolist() == [3, 1]


def test_label_types() -> None:
    assert task_data([0, 1]).train.labels.dtype == np.int64
    assert task_data([0.5, 1], key="stsb").train.labels.dtype == np.float32


@given(
    rows=st.integers(2, 300),
    fraction=st.floats(0.01, 0.49),
    most=st.none() | st.integers(1, 400),
    share=st.floats(0, 1),
)
@settings(deadline=None, max_examples=60)
def test_select_and_training_rows_are_disjoint(rows: int, fraction: float, most: int | None, share: float) -> None:
    data = task_data([int(i < share * rows) for i in range(rows)])
    train, select = train_and_select(data, fraction, most)
    assert not set(train.ids.tolist()) & set(select.ids.tolist())
    assert len(select) >= 1
    assert 1 <= len(train) <= (most or rows)
    if most is None:
        assert len(train) + len(select) == rows
    for split in (train, select):
        assert split.ids.tolist() == sorted(set(split.ids.tolist()))
        assert split.texts[0] == [f"sentence1 train {i}" for i in split.ids]


def test_select_is_the_same_for_every_caller_and_stratified() -> None:
    data = task_data([0] * 300 + [1] * 100)
    (_, one), (_, two) = (train_and_select(data, 0.1, None) for _ in range(2))
    assert one.ids.tolist() == two.ids.tolist()
    assert one.labels.tolist().count(1) == 10
    assert len(one) == 40
    train, select = train_and_select(data, 0.1, 90)
    assert (len(train), len(select)) == (90, 10)
    assert abs(train.labels.mean() - 0.25) < 0.03
    assert set(select.ids.tolist()) < set(one.ids.tolist())


def test_smaller_training_subset_is_part_of_the_larger() -> None:
    data = task_data([i % 2 for i in range(500)])
    small, large = (set(train_and_select(data, 0.1, most)[0].ids.tolist()) for most in (50, 200))
    assert small < large


def test_select_is_not_the_first_rows() -> None:
    _, select = train_and_select(task_data([float(i) for i in range(200)], key="stsb"), 0.1, None)
    assert select.ids.max() > 100


def test_one_training_row_is_refused() -> None:
    with pytest.raises(UserError):
        train_and_select(task_data([1]), 0.1, None)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=200), part=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_any_beginning_holds_the_labels_in_their_proportion(labels: list[int], part: float) -> None:
    values = np.array(labels)
    order = spread(values, stratified=True)
    assert sorted(order.tolist()) == list(range(len(labels)))
    first = round(part * len(labels))
    for label in set(labels):
        expected = labels.count(label) * first / len(labels)
        assert abs((values[order[:first]] == label).sum() - expected) <= len(set(labels))


def test_fingerprint_follows_the_contents() -> None:
    data = task_data([0, 1, 1, 0])
    assert data.fingerprint == task_data([0, 1, 1, 0]).fingerprint
    assert data.fingerprint != task_data([0, 1, 1, 1]).fingerprint
    train = data.train
    moved = replace(train, texts=([train.texts[0][0] + " x", *train.texts[0][1:]], train.texts[1]))
    assert data.fingerprint != fingerprint(data.task, {**data.splits, "train": moved})
    shifted = replace(train, texts=(train.texts[1], train.texts[0]))
    assert data.fingerprint != fingerprint(data.task, {**data.splits, "train": shifted})
