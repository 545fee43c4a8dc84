"""Training data as people have it: few labels, wrong labels, rare classes. Made of whole data, by seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kdcore.config import DataConfig, TrainConfig
from kdcore.data.splits import NO_LABEL, Split, TaskData, has_label, spread, train_and_select
from kdcore.errors import UserError

_SEED = 20_261_128
_NOISE, _IMBALANCE, _LABELS = range(3)


@dataclass(frozen=True)
class LearningRows:
    """What a run learns from.

    train: rows of which some may have no label. select: labelled rows alone; every decision is taken on them.
    epoch: rows that an epoch counts: those that there were before classes were thinned out, so that equal settings
        are equal steps whatever the damage. wrong: labels of `train` that are not the row's own.
    added: rows of `train` that never had a label; they come last.
    """

    train: Split
    select: Split
    epoch: int
    wrong: int = 0
    added: int = 0


def learning_rows(data: TaskData, train: TrainConfig, damage: DataConfig) -> LearningRows:
    """The training rows and `select` of a run: split first, then damaged alike; then texts without a label are added.

    Classes are thinned out first, then labels made wrong, then labels taken away.

    Raises:
        UserError: fewer than two training rows, or a damage that has no meaning for the task.
    """
    clean = train_and_select(data, train.select_fraction, train.max_train_rows)
    rows = LearningRows(*clean, len(clean[0])) if damage.clean else _learning_rows(clean, data, damage)
    if (more := data.unlabelled) is None:
        return rows
    return replace(rows, train=_concatenate(rows.train, more), epoch=rows.epoch + len(more), added=len(more))


def _learning_rows(clean: tuple[Split, Split], data: TaskData, damage: DataConfig) -> LearningRows:
    _check(data, damage)
    kept = _long_tail(clean, damage) if damage.imbalance < 1 else clean
    noisy = [_noisy(split, data, damage, place) for place, split in enumerate(kept)]
    few, select = (_few_labels(split, data, damage, place) for place, split in enumerate(noisy))
    wrong = int((has_label(few.labels) & (few.labels != kept[0].labels)).sum())
    return LearningRows(few, select.labelled, len(clean[0]), wrong)


def _concatenate(first: Split, second: Split) -> Split:
    """The rows of both, under the first one's name."""
    texts = tuple([*ours, *more] for ours, more in zip(first.texts, second.texts, strict=True))
    labels = np.concatenate([first.labels, second.labels])
    known = [split.sources for split in (first, second) if split.sources is not None]
    sources = np.concatenate(known) if len(known) == 2 else None
    return Split(first.name, texts, labels, np.concatenate([first.ids, second.ids]), sources)


def _check(data: TaskData, damage: DataConfig) -> None:
    """Raises UserError where the damage has no meaning for the task."""
    if data.task.kind == "classification":
        return
    if damage.imbalance < 1:
        raise UserError("data.imbalance", "scores have no classes that could be rare", "leave it at 1")
    if damage.label_noise and damage.noise_kind == "confused":
        raise UserError("data.noise_kind", "scores have no classes to confuse", "choose uniform")


def _long_tail(splits: tuple[Split, Split], damage: DataConfig) -> tuple[Split, Split]:
    """Both splits with n_c = n_max mu^(c / (C - 1)) rows of the c-th most frequent of C classes, or as many as there
    are; of each class one at least. Imbalance as in Sarfraz et al. 2020; the formula and its levels are ours."""
    labels, counts = np.unique(splits[0].labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    wanted = counts.max() * damage.imbalance ** (np.arange(len(order)) / max(1, len(order) - 1))
    share = {labels[c]: min(1.0, rows / counts[c]) for c, rows in zip(order, wanted, strict=True)}
    train, select = (_subsample(split, share, (_SEED, damage.seed, _IMBALANCE, i)) for i, split in enumerate(splits))
    return train, select


def _subsample(split: Split, share: dict[np.generic, float], seed: tuple[int, ...]) -> Split:
    """So much of each class, one row at least; of a class that `share` does not name all."""
    order, keep = spread(split.labels, False, seed), np.zeros(len(split), dtype=bool)
    for label in np.unique(split.labels):
        rows = order[split.labels[order] == label]
        keep[rows[: max(1, round(share.get(label, 1.0) * len(rows)))]] = True
    return split.take(np.flatnonzero(keep))


def _noisy(split: Split, data: TaskData, damage: DataConfig, place: int) -> Split:
    """So many labels wrong, of each class the same share. Scores change places among the rows that are chosen."""
    count = round(damage.label_noise * len(split))
    if not count:
        return split
    seed, classes = (_SEED, damage.seed, _NOISE, place), data.task.kind == "classification"
    chosen, labels = spread(split.labels, classes, seed)[:count], split.labels.copy()
    if not classes:
        labels[chosen] = np.roll(labels[chosen], 1)
    else:
        outputs, confused = data.task.outputs, damage.noise_kind == "confused"
        steps = np.random.default_rng((*seed, 1)).integers(1, outputs, size=len(split))[:count]
        labels[chosen] = (labels[chosen].astype(np.int64) + (1 if confused else steps)) % outputs
    return replace(split, labels=labels)


def _few_labels(split: Split, data: TaskData, damage: DataConfig, place: int) -> Split:
    """The same rows, of which so many keep their label, one at least: of each class the same share."""
    keep = max(1, round(damage.label_fraction * len(split)))
    if keep == len(split):
        return split
    order = spread(split.labels, data.task.kind == "classification", (_SEED, damage.seed, _LABELS, place))
    labels: NDArray[np.generic] = split.labels.copy()
    labels[order[keep:]] = NO_LABEL[data.task.kind]
    return replace(split, labels=labels)
