"""What a data set is once it is read: rows with ids of their own, split by split."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kdcore.data.notes import Note
from kdcore.errors import UserError
from kdcore.tasks import NO_CLASS, Task

IDS_PER_SPLIT = 10**9
"""Row r of the k-th dev split has the id k * IDS_PER_SPLIT + r; training rows from 0, unlabelled ones last."""

UNLABELLED = "unlabelled"
"""What the split of texts without a label is called."""

SPLIT_SEED = 20_240_607
"""Who is in `select` never depends on a run's seed: compared runs decide on the same rows."""


@dataclass(frozen=True)
class Split:
    """Rows of one split.

    texts: one list per text column. labels: int64 [rows] (classification) or float32 [rows] (regression); -1 or NaN: a
        training row that has none.
    ids: int64 [rows], unique over the whole data set.
    sources: int64 [rows], the number of each row's domain; None where the data name no domains, and on dev splits.
    """

    name: str
    texts: tuple[list[str], ...]
    labels: NDArray[np.generic]
    ids: NDArray[np.int64]
    sources: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> Split:
        """The rows that have a label; the split itself where all do."""
        there = has_label(self.labels)
        return self if there.all() else self.take(np.flatnonzero(there))

    def take(self, indices: NDArray[np.int64], name: str | None = None) -> Split:
        """These rows, in this order, with the ids they always had."""
        indices = np.asarray(indices, dtype=np.int64)
        texts = tuple([column[i] for i in indices] for column in self.texts)
        sources = None if self.sources is None else self.sources[indices]
        return Split(name or self.name, texts, self.labels[indices], self.ids[indices], sources)


@dataclass(frozen=True)
class TaskData:
    """A task with its rows.

    splits: "train" and the task's dev splits. fingerprint: sha256 over all texts and labels.
    source: where the rows come from, in words. partial: why this is not the full official data set, or None.
    vocabulary: the WordPiece vocabulary that belongs to the data (pocket suite only).
    notes: what reading the rows brought to light (own tables only).
    unlabelled: more texts to learn from, none with a label (own tables only). They are part of the fingerprint.
    domains: names of the domains that training rows are of, by their number; empty where the data name none.
    """

    task: Task
    splits: Mapping[str, Split]
    fingerprint: str
    source: str
    partial: str | None = None
    vocabulary: tuple[str, ...] | None = None
    notes: tuple[Note, ...] = ()
    unlabelled: Split | None = None
    domains: tuple[str, ...] = ()

    @property
    def labelled(self) -> TaskData:
        """The same without the unlabelled texts, of which teachers that are trained here learn nothing."""
        if self.unlabelled is None:
            return self
        return replace(self, unlabelled=None, fingerprint=fingerprint(self.task, self.splits))

    @property
    def train(self) -> Split:
        return self.splits["train"]

    @property
    def domain_fingerprint(self) -> str:
        """sha256 over the domains of training rows and unlabelled texts; empty where the data name none."""
        if not self.domains:
            return ""
        digest = hashlib.sha256(repr(self.domains).encode())
        for split in (self.train, self.unlabelled):
            if split is not None and split.sources is not None:
                digest.update(split.sources.tobytes())
        return digest.hexdigest()

    def has_fingerprint(self, told: str) -> bool:
        """Whether a run that tells this fingerprint saw these rows: it may be of a version whose fingerprint of an own
        table had the rows' domains in it."""
        return told in (self.fingerprint, self._fingerprint_with_domains())

    def _fingerprint_with_domains(self) -> str:
        rows = [self._domains_of(split) for split in (self.train, self.unlabelled)]
        return hashlib.sha256(repr((self.fingerprint, *rows)).encode()).hexdigest()

    def _domains_of(self, split: Split | None) -> list[str]:
        if split is None or split.sources is None:
            return []
        return [self.domains[number] for number in split.sources]


NO_LABEL = {"classification": NO_CLASS, "regression": np.nan}
"""What stands in place of a label that a row does not have, by kind of task."""


def has_label(labels: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which rows have a label: bool [rows]."""
    return np.isfinite(labels) if labels.dtype.kind == "f" else labels.astype(np.int64) >= 0


def make_split(task: Task, name: str, texts: tuple[list[str], ...], labels: NDArray[np.generic]) -> Split:
    """A split whose ids follow from its name and row numbers."""
    place = ("train", *task.splits, UNLABELLED).index(name)
    dtype = np.int64 if task.kind == "classification" else np.float32
    ids = np.arange(len(labels), dtype=np.int64) + place * IDS_PER_SPLIT
    return Split(name, texts, np.asarray(labels, dtype=dtype), ids)


def with_domains(data: TaskData, domains: Sequence[str], sources: Sequence[int]) -> TaskData:
    """The same data, of whose training rows it is known which domain each is of.

    Args:
        domains: names. sources: number of each training row's domain.
    """
    train = replace(data.train, sources=np.asarray(sources, dtype=np.int64))
    return replace(data, splits={**data.splits, "train": train}, domains=tuple(domains))


def fingerprint(task: Task, splits: Mapping[str, Split]) -> str:
    """sha256 over the task's columns and labels and every split's texts, labels and ids."""
    digest = hashlib.sha256(repr((task.key, task.columns, task.kind, task.labels)).encode())
    for name in sorted(splits):
        split = splits[name]
        digest.update(f"\x02{name}\x02{len(split)}\x02".encode())
        for column in split.texts:
            digest.update("\x00".join(column).encode("utf-8", "surrogatepass") + b"\x01")
        digest.update(split.labels.tobytes() + split.ids.tobytes())
    return digest.hexdigest()


def train_and_select(data: TaskData, fraction: float, max_train_rows: int | None = None) -> tuple[Split, Split]:
    """The training rows and `select`, the rows kept aside for every decision taken while training.

    Seeded by a constant and stratified over the labels. `max_train_rows` bounds the training rows; `select` then has
    the size that keeps `fraction` the share of both together. A smaller subset is part of every larger one.

    Raises:
        UserError: fewer than two training rows.
    """
    train = data.train
    if len(train) < 2:
        raise UserError("task", f"{data.task.key} has {len(train)} training rows", "give at least two")
    rows = len(train)
    if max_train_rows is not None:
        rows = min(rows, math.ceil(max_train_rows / (1 - fraction)))
    held = min(max(1, round(rows * fraction)), len(train) - 1)
    rows = min(len(train) - held, max_train_rows or len(train))
    order = spread(train.labels, stratified=data.task.kind == "classification")
    return train.take(np.sort(order[len(order) - rows :]), "train"), train.take(np.sort(order[:held]), "select")


def spread(
    labels: NDArray[np.generic], stratified: bool, seed: int | tuple[int, ...] = SPLIT_SEED
) -> NDArray[np.int64]:
    """A seeded order of the rows; where stratified, any first or last n rows hold the labels in their proportion."""
    rng = np.random.default_rng(seed)
    place = rng.random(len(labels))
    if not stratified:
        return np.argsort(place, kind="stable")
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows] = (rng.permutation(len(rows)) + 0.5) / len(rows)
    return np.argsort(place, kind="stable")
