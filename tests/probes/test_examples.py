from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.probes import examples

LABELS = ("no", "maybe", "yes")
IDS = IDS_PER_SPLIT + np.arange(5)
GOLD = np.array([0, 1, 1, 2, 0])


def logits_of(probabilities):
    return np.log(np.asarray(probabilities, dtype=np.float64))


REFERENCE = logits_of([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
STUDENT = logits_of([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.1, 0.8, 0.1]])


@pytest.fixture
def rows():
    return examples.compare_labels(IDS, GOLD, REFERENCE, STUDENT)


def test_each_row_is_judged_by_hand(rows):
    assert rows["outcome"].tolist() == ["both right", "lost", "gained", "both wrong", "lost"]
    assert rows["reference"].tolist() == [0, 1, 0, 1, 0] and rows["student"].tolist() == [0, 0, 1, 1, 1]
    assert rows["reference_p"].tolist() == pytest.approx([0.7, 0.8, 0.3, 0.3, 0.9])
    assert rows["drop"].tolist() == pytest.approx([0.1, 0.4, -0.4, 0.0, 0.8])
    assert rows.index.tolist() == IDS.tolist()


def test_cells_hold_the_very_rows_that_they_count():
    rng = np.random.default_rng(0)
    gold, reference, student = rng.integers(0, 3, 200), rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    rows = examples.compare_labels(np.arange(200), gold, reference, student)
    outcomes, cells = examples.count_outcomes(rows), examples.count_labels(rows, LABELS)
    assert outcomes.to_numpy().sum() == cells.to_numpy().sum() == 200
    for index, outcome in enumerate(examples.OUTCOMES):
        found = examples.with_outcome(rows, outcome)
        assert len(found) == outcomes.iloc[divmod(index, 2)]
        one, other = reference.argmax(-1)[found.index], student.argmax(-1)[found.index]
        assert ((one == gold[found.index]) == (outcome in ("both right", "lost"))).all()
        assert ((other == gold[found.index]) == (outcome in ("both right", "gained"))).all()
    for one in range(3):
        for other in range(3):
            found = examples.with_answers(rows, one, other)
            assert len(found) == cells.iloc[one, other]
            wanted = (reference.argmax(-1) == one) & (student.argmax(-1) == other)
            assert set(found.index) == set(np.flatnonzero(wanted))


def test_the_largest_fall_stands_first_and_among_the_gained_the_largest_rise(rows):
    assert examples.with_outcome(rows, "lost").index.tolist() == [IDS[4], IDS[1]]
    more = pd.concat([rows, rows.assign(drop=rows["drop"] - 0.1)], ignore_index=True)
    assert examples.with_outcome(more, "gained")["drop"].is_monotonic_increasing
    assert examples.with_answers(more, 0, 1)["drop"].is_monotonic_decreasing


@pytest.mark.parametrize("student", [np.zeros((5, 2)), np.zeros((4, 3)), np.zeros(5)])
def test_what_is_no_pair_of_classifiers_is_refused(student):
    with pytest.raises(ValueError, match="rows, classes"):
        examples.compare_labels(IDS, GOLD, REFERENCE, student)


def test_scores_by_hand():
    rows = examples.compare_scores([7, 8], [1.0, 4.0], [[2.0], [4.5]], [[0.5], [2.0]])
    assert rows["difference"].tolist() == [-1.5, -2.5]
    assert rows["farther"].tolist() == [-0.5, 1.5]
    assert rows.index.tolist() == [7, 8]


def test_the_mean_answer_is_the_mean_of_probabilities():
    mean = examples.mean_answer([REFERENCE, STUDENT + 3.0])
    expected = (np.exp(REFERENCE) + np.exp(STUDENT)) / 2
    assert np.allclose(np.exp(mean), expected, atol=1e-12)
    assert examples.mean_answer([[[1.0], [3.0]], [[2.0], [5.0]]]).tolist() == [[1.5], [4.0]]


def test_disagreement_is_the_mean_divergence_from_the_mean():
    third = logits_of(np.full((5, 3), 1 / 3))
    found = examples.disagreement([REFERENCE, STUDENT, third])
    for row in range(5):
        each = [np.exp(one[row]) for one in (REFERENCE, STUDENT, third)]
        mean = [sum(p) / 3 for p in zip(*each, strict=True)]
        slow = sum(p * math.log(p / m) for one in each for p, m in zip(one, mean, strict=True)) / 3
        assert found[row] == pytest.approx(slow, abs=1e-12)
    assert np.allclose(examples.disagreement([REFERENCE, REFERENCE + 1.0]), 0.0, atol=1e-12)
    opposite = examples.disagreement([[[40.0, -40.0]], [[-40.0, 40.0]]])
    assert opposite.tolist() == pytest.approx([math.log(2)])
    assert examples.disagreement([[[1.0], [3.0]], [[2.0], [5.0]]]).tolist() == [1.0, 2.0]


def test_a_list_holds_sentences_answers_and_measures_under_distinct_headers(rows):
    texts = pd.DataFrame({"gold": list("abcde"), "drop": list("fghij")}, index=rows.index)
    table = examples.listing(texts, GOLD, {"t": REFERENCE, "s": STUDENT}, LABELS, rows[["drop"]])
    assert list(table.columns) == ["row", "gold", "drop", "gold (2)", "t", "t: p(gold)", "s", "s: p(gold)", "drop (2)"]
    assert table["row"].tolist() == [0, 1, 2, 3, 4]
    assert table["gold (2)"].tolist() == ["no", "maybe", "maybe", "yes", "no"]
    assert table["s"].tolist() == ["no", "no", "maybe", "maybe", "maybe"]
    assert table["s: p(gold)"].tolist() == [0.6, 0.4, 0.7, 0.3, 0.1]
    assert table["drop (2)"].tolist() == [0.1, 0.4, -0.4, 0.0, 0.8]


def test_a_list_of_scores_has_one_column_a_model():
    texts = pd.DataFrame({"sentence": ["a", "b"]}, index=[0, 1])
    table = examples.listing(texts, [1.0, 2.5], {"t": [[1.23456], [2.0]]}, ())
    assert table.to_dict("list") == {"row": [0, 1], "sentence": ["a", "b"], "gold": [1.0, 2.5], "t": [1.2346, 2.0]}


def test_names_are_told_apart():
    assert examples.distinct(["a", "b", "a", "a (2)", "a"]) == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]
