"""What is in the rows of a task: the questions that a person should have answered before a run starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.data.damage import LearningRows
from kdcore.data.splits import Split, TaskData

LENGTH_ROWS = 2000
"""Rows of a split whose tokens are counted: a share within two points."""

LENGTH_CHARACTERS = 10_000
"""Characters of a text that are tokenised to learn its length: well over 512 tokens of any script."""

Rows = Mapping[str, Split]
Lengths = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class ScoreRange:
    lowest: float
    highest: float
    mean: float
    std: float


@dataclass(frozen=True)
class RowReport:
    """Of "train" (the rows that are learned from), "select" and the dev splits.

    rows: split -> number of rows. counts: split -> rows of each class, int64 [classes]; none for scores.
    majority: share of the most frequent class in the training rows, 0 to 1; None for scores.
    cut: split -> share of rows of more than the kept tokens, 0 to 1, of the rows whose lengths are known.
    repeated: dev split -> rows that are also training rows. contradicting: training rows of which an equal row has
    another label. Both are asked of own tables alone: GLUE is known, and large.
    missing: select or dev split -> names of classes without a row. scores: None for classes.
    """

    rows: Mapping[str, int]
    counts: Mapping[str, NDArray[np.int64]]
    majority: float | None
    cut: Mapping[str, float]
    repeated: Mapping[str, int]
    contradicting: int
    missing: Mapping[str, tuple[str, ...]]
    scores: ScoreRange | None


def row_report(data: TaskData, rows: LearningRows, max_length: int, lengths: Lengths) -> RowReport:
    """Every question at once.

    Args:
        rows: what the run learns from. max_length: tokens kept of a row.
        lengths: split -> tokens of rows before any are cut, as `token_lengths` gives them.
    """
    splits = used_splits(data, rows)
    classes = data.task.kind == "classification"
    counts = {name: class_counts(split, data.task.outputs) for name, split in splits.items()} if classes else {}
    learned = list(splits.values())[:2]
    dev = {name: split for name, split in splits.items() if name in data.task.splits}
    own = data.task.suite == "own"
    return RowReport(
        {name: len(split) for name, split in splits.items()},
        counts,
        majority_share(counts["train"]) if classes else None,
        {name: cut_share(each, max_length) for name, each in lengths.items()},
        {name: repeated_rows(split, learned) for name, split in dev.items() if own},
        contradicting_rows([split.labelled for split in learned]) if classes and own else 0,
        missing_classes(counts, data.task.labels),
        None if classes else score_range(splits["train"].labelled.labels),
    )


def used_splits(data: TaskData, rows: LearningRows) -> dict[str, Split]:
    """ "train", "select" and the task's dev splits."""
    return {"train": rows.train, "select": rows.select} | {name: data.splits[name] for name in data.task.splits}


def class_counts(split: Split, classes: int) -> NDArray[np.int64]:
    """Labelled rows of each class: int64 [classes]."""
    return np.bincount(split.labelled.labels.astype(np.int64), minlength=classes)


def majority_share(counts: NDArray[np.int64]) -> float:
    """Share of the most frequent class, 0 to 1."""
    return float(counts.max() / max(1, counts.sum()))


def missing_classes(counts: Mapping[str, NDArray[np.int64]], names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Split -> classes without a row, for the splits that lack any; of the training rows none is asked."""
    absent = {split: np.flatnonzero(each == 0) for split, each in counts.items() if split != "train"}
    return {split: tuple(names[i] for i in numbers) for split, numbers in absent.items() if len(numbers)}


def repeated_rows(split: Split, learned: list[Split]) -> int:
    """Rows of `split` whose texts are also those of a training row, but for case and spacing."""
    known = {key for each in learned for key in row_keys(each)}
    return sum(key in known for key in row_keys(split))


def contradicting_rows(splits: list[Split]) -> int:
    """Rows of which a row of the same texts, but for case and spacing, has another label."""
    labels: dict[tuple[str, ...], set[Any]] = {}
    keys = [key for split in splits for key in row_keys(split)]
    for key, label in zip(keys, np.concatenate([split.labels for split in splits]).tolist(), strict=True):
        labels.setdefault(key, set()).add(label)
    return sum(len(labels[key]) > 1 for key in keys)


def row_keys(split: Split) -> list[tuple[str, ...]]:
    """Each row's texts without differences in case and spacing."""
    columns = [[" ".join(text.split()).casefold() for text in column] for column in split.texts]
    return list(zip(*columns, strict=True))


def score_range(scores: NDArray[np.generic]) -> ScoreRange:
    values = scores.astype(np.float64)
    return ScoreRange(float(values.min()), float(values.max()), float(values.mean()), float(values.std()))


def cut_share(lengths: NDArray[np.int64], max_length: int) -> float:
    """Share of rows of more than `max_length` tokens, 0 to 1."""
    return float((lengths > max_length).mean()) if len(lengths) else 0.0


def token_lengths(data: TaskData, tokenizer: Any) -> dict[str, NDArray[np.int64]]:
    """Tokens of rows before any are cut, [CLS] and [SEP] included: split -> int64 [at most LENGTH_ROWS].

    Rows are taken evenly from the training rows and the dev splits.
    """
    return {name: _lengths(data.splits[name], tokenizer) for name in ("train", *data.task.splits)}


def _lengths(split: Split, tokenizer: Any) -> NDArray[np.int64]:
    chosen = np.linspace(0, len(split) - 1, min(LENGTH_ROWS, len(split))).astype(np.int64)
    texts = [[column[i][:LENGTH_CHARACTERS] for i in chosen] for column in split.texts]
    if not len(chosen):
        return np.empty(0, np.int64)
    coded = tokenizer(*texts, truncation=False, return_attention_mask=False, return_token_type_ids=False, verbose=False)
    return np.array([len(ids) for ids in coded["input_ids"]], dtype=np.int64)
