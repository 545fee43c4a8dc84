"""The verdict: hand-worked values, what it counts, and how often it is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import matthews_corrcoef

from kdcore.analysis.significance import MIN_PAIRED_SEEDS, OVER_BOTH, OVER_SEEDS, compare, contributions

SIX = range(MIN_PAIRED_SEEDS)


def test_scores_alone_give_the_paired_t_test() -> None:
    """Gaps 1..6: mean 3.5, std sqrt(3.5), standard error sqrt(3.5 / 6) = 0.7638, t(5; 0.975) = 2.5706."""
    found = compare({seed: seed + 1.0 for seed in SIX}, dict.fromkeys(SIX, 0.0))
    assert found.gap == 3.5 and found.rows == 0 and found.test == OVER_SEEDS
    assert found.low == pytest.approx(3.5 - 2.570582 * math.sqrt(3.5 / 6), abs=1e-5)
    assert found.high == pytest.approx(3.5 + 2.570582 * math.sqrt(3.5 / 6), abs=1e-5)
    assert found.p == pytest.approx(stats.ttest_rel(range(1, 7), [0] * 6).pvalue, rel=1e-12)
    assert found.real


def test_rows_are_counted_beside_seeds() -> None:
    """Six seeds, two rows, worked by hand.

    Gaps: rows (1, 0) for four seeds and (1, 1) for two. Seed means .5 .5 .5 .5 1 1: mean 2/3, squared deviations
    4 (1/36) + 2 (1/9) = 1/3, so MS_s = 2 (1/3) / 5 = 2/15. Row means 1 and 1/3: deviations 1/3 each, MS_r =
    6 (2/9) / 1 = 4/3. Left over: per seed +-(1/2 - 1/3) = 1/6 for four, 1/3 for two: sum 4 (2/36) + 2 (2/9) = 2/3,
    MS_sr = (2/3) / 5 = 2/15. Var = (2/15 + 4/3 - 2/15) / 12 = 1/9. Degrees of freedom 5 ((4/3) / (2/15))^2 = 500.
    """
    first = {seed: [1.0, 0.0 if seed < 4 else 1.0] for seed in SIX}
    found = compare(first, {seed: [0.0, 0.0] for seed in SIX})
    assert found.rows == 2 and found.test == OVER_BOTH
    assert found.gap == pytest.approx(2 / 3)
    half = stats.t.ppf(0.975, 500) / 3
    assert (found.low, found.high) == pytest.approx((2 / 3 - half, 2 / 3 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(2.0, 500))
    assert not compare({seed: [0.0, 1.0] for seed in SIX}, {seed: [1.0, 0.0] for seed in SIX}).real


def test_rows_that_vary_no_more_than_chance_change_nothing() -> None:
    """Where MS_r is not above MS_sr the test is the one over seeds."""
    gaps = np.array([[1.0, -1], [-1, 1], [2, 0], [0, 2], [3, -1], [-1, 3]])  # both rows have mean 2/3
    found = compare(dict(enumerate(gaps)), dict.fromkeys(SIX, np.zeros(2)))
    assert found.p == pytest.approx(stats.ttest_1samp(gaps.mean(1), 0).pvalue)


def test_fewer_than_six_seeds_have_a_gap_and_no_verdict() -> None:
    found = compare(dict.fromkeys(range(5), 0.9), dict.fromkeys(range(9), 0.5))
    assert found.seeds == (0, 1, 2, 3, 4) and found.gap == pytest.approx(0.4)
    assert not found.enough and not found.real and math.isnan(found.p) and math.isnan(found.low)


def test_only_shared_seeds_count() -> None:
    found = compare({seed: float(seed) for seed in range(8)}, dict.fromkeys(range(2, 12), 0.0))
    assert found.seeds == tuple(range(2, 8)) and found.gap == 4.5
    assert compare({0: 1.0}, {1: 1.0}).seeds == ()


def test_turning_the_pair_round_turns_the_sign() -> None:
    chance = np.random.default_rng(0)
    first, second = ({seed: chance.normal(size=20) for seed in SIX} for _ in range(2))
    one, other = compare(first, second), compare(second, first)
    assert (one.gap, one.low, one.high, one.p) == pytest.approx((-other.gap, -other.high, -other.low, other.p))


@pytest.mark.parametrize(("gap", "p", "real"), [(0.0, 1.0, False), (0.25, 0.0, True)])
def test_no_spread_at_all(gap: float, p: float, real: bool) -> None:
    found = compare(dict.fromkeys(SIX, [gap] * 3), dict.fromkeys(SIX, [0.0] * 3))
    assert (found.low, found.high, found.p, found.real) == (gap, gap, p, real)


def test_every_seed_right_on_the_same_rows_is_a_matter_of_rows() -> None:
    """No spread over seeds: the interval is that of the rows, with the normal's quantile."""
    row = np.array([1.0, 0, 0, 0])
    found = compare(dict.fromkeys(SIX, row), dict.fromkeys(SIX, np.zeros(4)))
    half = stats.norm.ppf(0.975) * row.std(ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half))


def test_rows_must_be_the_same() -> None:
    with pytest.raises(ValueError):
        compare({0: [1.0, 0.0]}, {0: [1.0, 0.0, 1.0]})


def test_it_errs_about_as_often_as_it_says() -> None:
    """Two equal methods whose seeds and rows both vary: called different in about 5 % of studies, where a test over
    rows alone (McNemar's) would err far more often."""
    chance = np.random.default_rng(7)
    wrong = 0
    for _ in range(600):
        gaps = chance.normal(0, 0.3, (6, 1)) + chance.normal(0, 1.0, (1, 40)) + chance.normal(0, 1.0, (6, 40))
        wrong += compare(dict(enumerate(gaps)), dict.fromkeys(SIX, np.zeros(40))).real
    assert 0.02 < wrong / 600 < 0.09


def test_contributions_of_accuracy_are_right_or_wrong() -> None:
    assert contributions("accuracy", [[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]], [0, 1, 1]).tolist() == [1, 1, 0]  # type: ignore[union-attr]
    assert contributions("f1", [[0.0, 1.0]], [1]) is None


@pytest.mark.parametrize("metric", ["matthews", "pearson"])
def test_contributions_are_the_jackknife(metric: str) -> None:
    chance = np.random.default_rng(3)
    labels = chance.integers(0, 2, 30) if metric == "matthews" else chance.normal(size=30)
    logits = chance.normal(size=(30, 2 if metric == "matthews" else 1)) + labels[:, None] * [[-0.7, 0.7]][0][-1:]

    def score(rows: np.ndarray) -> float:
        if metric == "matthews":
            return float(matthews_corrcoef(labels[rows], logits[rows].argmax(1)))
        return float(np.corrcoef(logits[rows, 0], labels[rows])[0, 1])

    every = np.arange(30)
    slow = np.array([30 * score(every) - 29 * score(np.delete(every, row)) for row in every])
    found = contributions(metric, logits, labels)
    assert found is not None
    np.testing.assert_allclose(found, slow - slow.mean() + score(every), atol=1e-10)
    assert found.mean() == pytest.approx(score(every))


@pytest.mark.parametrize("metric", ["matthews", "pearson"])
def test_constant_predictions_score_nothing(metric: str) -> None:
    found = contributions(metric, np.ones((5, 1 + (metric == "matthews"))), [0, 1, 0, 1, 1])
    assert found is not None and found.mean() == pytest.approx(0.0)
