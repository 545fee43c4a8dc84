"""Smoothing and thinning."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.figures.smoothing import smooth, thin


def test_smoothing_by_hand() -> None:
    # averages (1-f) x + f a, divided by 1 - f^n: 4; (0.5*4*0.5 + 0.5*8) / 0.75; ...
    assert smooth([4.0, 8.0, 0.0], 0.5) == pytest.approx([4.0, 5 / 0.75, 2.5 / 0.875])


def test_a_constant_curve_stays_constant_from_its_first_point() -> None:
    assert smooth(np.full(50, 7.0), 0.97) == pytest.approx(np.full(50, 7.0))


def test_factor_zero_is_the_raw_curve() -> None:
    raw = np.array([3.0, np.nan, -1.0])
    assert np.array_equal(smooth(raw, 0), raw, equal_nan=True)


def test_a_gap_stays_a_gap_and_leaves_the_average_alone() -> None:
    with_gap = smooth([1.0, np.nan, 3.0], 0.5)
    assert np.isnan(with_gap[1])
    assert with_gap[[0, 2]] == pytest.approx(smooth([1.0, 3.0], 0.5))


@pytest.mark.parametrize("factor", [-0.1, 1.0, 2.0])
def test_a_factor_outside_the_range_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="smoothing factor"):
        smooth([1.0], factor)


def test_smoothing_a_thinned_curve_is_not_the_thinned_smooth_curve() -> None:
    """Why the order matters: the same factor over fewer points is another curve."""
    rng = np.random.default_rng(0)
    x, y = np.arange(9000.0), rng.normal(size=9000)
    right = thin(x, smooth(y, 0.99), 300)
    wrong = smooth(thin(x, y, 300)[1], 0.99)
    assert np.abs(right[1]).max() < np.abs(wrong).max()


def test_thinning_keeps_peaks_ends_and_gaps() -> None:
    x, y = np.arange(10_000.0), np.zeros(10_000)
    y[4321], y[7777], y[5000] = 9.0, -9.0, np.nan
    xs, ys = thin(x, y, 300)
    assert len(xs) <= 330
    assert xs[0] == 0 and xs[-1] == 9999
    assert np.nanmax(ys) == 9.0 and np.nanmin(ys) == -9.0
    assert np.isnan(ys).sum() == 1
    assert (np.diff(xs) > 0).all()


def test_short_curves_are_not_touched() -> None:
    xs, ys = thin([1, 2], [3, 4], 1500)
    assert xs.tolist() == [1, 2] and ys.tolist() == [3, 4]
