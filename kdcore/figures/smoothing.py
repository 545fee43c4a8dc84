"""Smoothing and thinning of curves. Smooth first, on every raw point; thin after, for the screen only."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

POINTS = 1500
"""Points of one line that a screen can show."""


def smooth(values: ArrayLike, factor: float) -> NDArray[np.float64]:
    """Exponential moving average, corrected for its start, so that the first point is the first value.

    A missing value stays missing and leaves the average as it was: gaps are never bridged by invented points.

    Args:
        values: [points], may hold NaN. factor: 0 (raw) to below 1 (flat).
    """
    if not 0 <= factor < 1:
        raise ValueError(f"the smoothing factor is {factor}, not in [0, 1)")
    raw = np.asarray(values, dtype=np.float64)
    if factor == 0:
        return raw.copy()
    series = pd.Series(np.where(np.isfinite(raw), raw, np.nan))
    # adjust: each average is divided by the sum of its weights, which is the correction for the start
    average = series.ewm(alpha=1 - factor, adjust=True, ignore_na=True).mean()
    return average.where(series.notna()).to_numpy(dtype=np.float64)


def thin(x: ArrayLike, y: ArrayLike, limit: int = POINTS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most about `limit` points that keep each stretch's lowest and highest value, the ends and every gap."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) <= limit:
        return xs, ys
    edges = np.linspace(0, len(xs), max(1, limit // 3) + 1).astype(int)
    places = edges[:-1, None] + np.arange(np.diff(edges).max())  # a row a stretch; what lies beyond its end is left out
    inside = places < edges[1:, None]
    part = np.where(inside, ys[np.minimum(places, len(ys) - 1)], np.nan)
    finite = np.isfinite(part)
    lowest = np.where(finite, part, np.inf).argmin(axis=1)
    highest = np.where(finite, part, -np.inf).argmax(axis=1)
    gap = (inside & ~finite).argmax(axis=1)
    some, hole = finite.any(axis=1), (inside & ~finite).any(axis=1)
    chosen = [edges[:-1][some] + lowest[some], edges[:-1][some] + highest[some], edges[:-1][hole] + gap[hole]]
    keep = np.unique(np.concatenate([*chosen, [0, len(xs) - 1]]))
    return xs[keep], ys[keep]
