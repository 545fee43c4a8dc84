"""Few labels, wrong labels, rare classes: which rows, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.config import DataConfig, TrainConfig
from kdcore.data.damage import LearningRows, learning_rows
from kdcore.data.splits import has_label, train_and_select
from kdcore.errors import UserError
from tests.data.test_splits import task_data

LABELS = [0, 1, 2] * 100 + [0] * 100
DATA = task_data(LABELS, key="mnli")
SCORES = task_data([i / 40 for i in range(200)], key="stsb")
CLEAN = learning_rows(DATA, TrainConfig(), DataConfig())


def rows(data=DATA, **damage: object) -> LearningRows:
    return learning_rows(data, TrainConfig(), DataConfig(**damage))  # type: ignore[arg-type]


def gold(split) -> np.ndarray:
    """The labels that these rows have in the whole data."""
    return DATA.train.labels[split.ids]


def test_whole_data_are_the_plain_split() -> None:
    train, select = train_and_select(DATA, 0.1)
    seeded = rows(seed=5, noise_kind="confused", teacher_data="clean")
    for made, plain in ((seeded.train, train), (seeded.select, select)):
        assert (made.ids == plain.ids).all() and (made.labels == plain.labels).all() and made.texts == plain.texts
    assert (seeded.epoch, seeded.wrong) == (360, 0)


@pytest.mark.parametrize("data", [DATA, SCORES])
def test_few_labels_leave_the_rows_and_take_labels(data) -> None:
    clean, few = rows(data), rows(data, label_fraction=0.2)
    assert (few.train.ids == clean.train.ids).all() and few.train.texts == clean.train.texts
    there = has_label(few.train.labels)
    assert there.sum() == round(0.2 * len(clean.train))
    assert (few.train.labels[there] == clean.train.labels[there]).all()
    assert few.train.labels.dtype == clean.train.labels.dtype and few.epoch == clean.epoch
    assert has_label(few.select.labels).all() and len(few.select) == round(0.2 * len(clean.select))
    assert len(few.train.labelled) == there.sum()


def test_few_labels_keep_the_classes_in_proportion() -> None:
    kept = rows(label_fraction=0.1).train.labelled
    assert abs(np.bincount(kept.labels) - 0.1 * np.bincount(CLEAN.train.labels)).max() <= 1


@pytest.mark.parametrize("kind", ["uniform", "confused"])
def test_wrong_labels_are_so_many_and_never_the_rows_own(kind: str) -> None:
    for share in (0.1, 0.2, 0.4):
        noisy = rows(label_noise=share, noise_kind=kind)
        wrong = noisy.train.labels != gold(noisy.train)
        assert wrong.sum() == noisy.wrong == round(share * len(noisy.train))
        assert (noisy.select.labels != gold(noisy.select)).sum() == round(share * len(noisy.select))
        steps = (noisy.train.labels - gold(noisy.train))[wrong] % 3
        assert set(steps.tolist()) == ({1} if kind == "confused" else {1, 2})
        assert set(noisy.train.labels.tolist()) <= {0, 1, 2}


def test_wrong_scores_are_those_of_other_rows() -> None:
    clean, noisy = rows(SCORES).train, rows(SCORES, label_noise=0.3).train
    assert sorted(noisy.labels.tolist()) == sorted(clean.labels.tolist())
    assert (noisy.labels != clean.labels).sum() == round(0.3 * len(clean))


def test_a_smaller_damage_is_part_of_a_larger_one() -> None:
    small, large = (has_label(rows(label_fraction=share).train.labels) for share in (0.1, 0.3))
    assert (large[small]).all()
    little, much = (rows(label_noise=share).train for share in (0.1, 0.4))
    changed = little.labels != CLEAN.train.labels
    assert (much.labels[changed] == little.labels[changed]).all()
    rare, rarer = (set(rows(imbalance=share).train.ids.tolist()) for share in (0.4, 0.1))
    assert rarer < rare < set(CLEAN.train.ids.tolist())


def test_imbalance_is_a_geometric_fall_from_the_most_frequent_class() -> None:
    """n_c = n_max mu^(c / (C - 1))."""
    before = np.bincount(CLEAN.train.labels)
    assert before.tolist() == [180, 90, 90]
    for share in (0.2, 0.05):
        counts = np.bincount(rows(imbalance=share).train.labels)
        wanted = [180 * share ** (c / 2) for c in range(3)]
        assert counts.tolist() == [round(min(n, wish)) for n, wish in zip(before, wanted, strict=True)]
    assert rows(imbalance=0.2).epoch == 360, "an epoch counts the rows that there were"


def test_the_seed_chooses_the_rows_and_each_damage_draws_apart() -> None:
    one, two = (has_label(rows(label_fraction=0.2, seed=seed).train.labels) for seed in (0, 1))
    assert (one != two).any()
    noisy = rows(label_noise=0.2).train.labels != CLEAN.train.labels
    assert 0.05 < noisy[one].mean() < 0.4, "who is wrong does not follow from who keeps a label"


def test_all_at_once_says_how_many_are_wrong() -> None:
    made = rows(label_fraction=0.5, label_noise=0.2, imbalance=0.5)
    kept = made.train.labelled
    assert made.wrong == (kept.labels != gold(kept)).sum() > 0


@pytest.mark.parametrize(
    ("damage", "field"),
    [({"imbalance": 0.5}, "data.imbalance"), ({"label_noise": 0.1, "noise_kind": "confused"}, "data.noise_kind")],
)
def test_what_has_no_meaning_for_scores_is_refused(damage: dict[str, object], field: str) -> None:
    with pytest.raises(UserError) as error:
        rows(SCORES, **damage)
    assert error.value.field == field
