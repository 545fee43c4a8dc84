"""What a student lost: rows in four cells, intervals, slopes and marks of lost rows, against planted values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdcore.probes import fidelity, lost_rows
from kdcore.probes.lost_rows import Cells


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """gold [rows], teacher and student logits [rows, 3]."""
    chance = np.random.default_rng(0)
    gold = chance.integers(0, 3, 400)
    teacher, student = (skill * np.eye(3)[gold] + chance.normal(size=(400, 3)) for skill in (2.5, 1.0))
    return gold, teacher, student


def test_a_teacher_against_itself_lost_nothing(answers) -> None:
    gold, teacher, _ = answers
    cells = lost_rows.four_cells(gold, teacher, teacher)
    assert cells.lost == cells.gained == 0 and cells.p == 1 and cells.lost_share == 0
    assert fidelity.compare(teacher, teacher, False)["agreement"] == 1
    assert fidelity.probability_loyalty(teacher, teacher) == 1
    right = (teacher.argmax(1) == gold).astype(float)
    assert lost_rows.bootstrap(right, right) == ((0.0, 0.0), (1.0, 1.0))


def test_the_cells_hold_every_row_and_their_difference_is_the_gap(answers) -> None:
    gold, teacher, student = answers
    cells = lost_rows.four_cells(gold, teacher, student)
    assert cells.rows == len(gold) and cells.lost > cells.gained > 0
    gap = (teacher.argmax(1) == gold).mean() - (student.argmax(1) == gold).mean()
    assert (cells.lost - cells.gained) / cells.rows == pytest.approx(gap, abs=1e-12)
    agreement = fidelity.compare(teacher, student, False)["agreement"]
    wrong_alike = (teacher.argmax(1) == student.argmax(1)) & (teacher.argmax(1) != gold)
    assert agreement == pytest.approx((cells.both + wrong_alike.sum()) / cells.rows)
    order = np.random.default_rng(1).permutation(len(gold))
    assert lost_rows.four_cells(gold[order], teacher[order], student[order]) == cells


def test_mcnemar_by_hand() -> None:
    cells = Cells(50, 20, 5, 25)
    assert cells.p == pytest.approx(stats.chi2.sf(14**2 / 25, 1))
    assert (cells.lost_share, cells.gained_share) == (20 / 70, 5 / 30)
    assert Cells(5, 4, 4, 0).p == 1, "the correction never makes a difference of none"
    assert np.isnan(Cells(0, 0, 1, 1).lost_share)


def test_probability_loyalty_is_symmetric_bounded_and_blind_to_shifts(answers) -> None:
    _, teacher, student = answers
    loyalty = fidelity.probability_loyalty(teacher, student)
    assert 0 < loyalty < 1
    assert fidelity.probability_loyalty(student, teacher) == pytest.approx(loyalty, abs=1e-12)
    assert fidelity.probability_loyalty(teacher, student + 7) == pytest.approx(loyalty, abs=1e-12)
    sure = 100 * np.eye(2)[[0, 1]]
    assert fidelity.probability_loyalty(sure, sure[::-1]) == pytest.approx(0, abs=1e-6)


def test_the_bootstrap_pairs_rows() -> None:
    chance = np.random.default_rng(0)
    teacher = (chance.random(500) < 0.8).astype(float)
    (low, high), (least, most) = lost_rows.bootstrap(teacher, teacher - 0.1)
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1), "rows are resampled for both at once"
    assert least < (teacher.mean() - 0.1) / teacher.mean() < most
    student = (chance.random(500) < 0.6).astype(float)
    gap = lost_rows.bootstrap(teacher, student)[0]
    error = (teacher - student).std() / np.sqrt(500)
    assert gap[1] - gap[0] == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert np.isnan(lost_rows.bootstrap(np.zeros(10), np.ones(10))[1]).all(), "nothing to keep a share of"


def test_slopes_of_a_plane_are_found() -> None:
    layers, heads = np.meshgrid([1, 2, 4], [1, 2, 4, 8])
    gaps = 0.3 - 0.05 * np.log2(layers) - 0.01 * np.log2(heads)
    found = lost_rows.slopes(layers.ravel(), heads.ravel(), gaps.ravel())
    assert [found[name].value for name in ("layers", "heads")] == pytest.approx([-0.05, -0.01])
    assert found["layers"].high - found["layers"].low < 1e-9
    (two,) = lost_rows.slopes([1, 2], [4, 4], [0.2, 0.1]).values()
    assert two.value == pytest.approx(-0.1) and np.isnan(two.low), "two points are always on a line"
    assert lost_rows.slopes([2], [4], [0.2]) == {} == lost_rows.slopes([1, 2], [1, 2], [0.2, 0.1])


def test_the_interval_of_a_slope_is_that_of_a_regression() -> None:
    gaps = [0.30, 0.27, 0.22, 0.21]
    (slope,) = lost_rows.slopes([1, 2, 4, 8], [2] * 4, gaps).values()
    plain = stats.linregress([0, 1, 2, 3], gaps)
    half = stats.t.ppf(0.975, 2) * plain.stderr
    assert (slope.value, slope.low, slope.high) == pytest.approx((plain.slope, plain.slope - half, plain.slope + half))


def test_a_planted_mark_is_found_and_the_others_are_not() -> None:
    chance = np.random.default_rng(0)
    marks = pd.DataFrame({"length (words)": chance.normal(10, 4, 4000), "noise": chance.normal(size=4000)})
    z = (marks["length (words)"] - marks["length (words)"].mean()) / marks["length (words)"].std(ddof=0)
    lost = chance.random(4000) < 1 / (1 + np.exp(1.5 - np.log(2) * z))
    table = lost_rows.odds_ratios(marks, lost).set_index("feature")
    assert table.loc["length (words)", "low"] < 2 < table.loc["length (words)", "high"]
    assert table.loc["length (words)", "low"] > 1.5
    assert table.loc["noise", "low"] < 1 < table.loc["noise", "high"]


def test_more_seeds_that_answer_alike_make_no_row_more_certain() -> None:
    chance = np.random.default_rng(0)
    marks = pd.DataFrame({"noise": chance.normal(size=500)})
    lost = (chance.random(500) < 0.3).astype(int)
    once, often = lost_rows.odds_ratios(marks, lost, 1), lost_rows.odds_ratios(marks, 5 * lost, 5)
    for name in ("ratio", "low", "high"):
        assert often[name].iloc[0] == pytest.approx(once[name].iloc[0], rel=1e-4)


def test_what_cannot_be_told_is_not_told() -> None:
    marks = pd.DataFrame({"split": [0.0] * 20 + [1.0] * 20, "same": [3.0] * 40})
    table = lost_rows.odds_ratios(marks, [0] * 20 + [1] * 20)
    assert list(table["feature"]) == ["split"], "a mark that never varies is left out"
    assert table[["low", "high"]].isna().all(axis=None), "a mark that separates has no ratio"
    assert lost_rows.odds_ratios(marks, [1] * 3 + [0] * 37).empty


def test_features_by_hand() -> None:
    texts = (["A dog runs.", "No"], ["a cat runs", "yes, yes"])
    table = lost_rows.features(texts, [1, 0], [0.9, 0.6], ("no", "yes"))
    assert table.to_dict("list") == {
        "length (words)": [6.0, 3.0],
        "teacher's confidence": [0.9, 0.6],
        "words in both sentences": [0.5, 0.0],
        "label yes": [1.0, 0.0],
    }
