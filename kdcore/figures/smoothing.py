"""Smoothing and thinning of curves. Smooth first, on every raw point; thin after, for the screen only."""

from __future__ import annotations

from itertools import pairwise

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
    keep = {0, len(xs) - 1}
    edges = np.linspace(0, len(xs), max(1, limit // 3) + 1).astype(int)
    for start, stop in pairwise(edges):
        part = ys[start:stop]
        finite = np.isfinite(part)
        if finite.any():
            keep.add(start + int(np.argmin(np.where(finite, part, np.inf))))
            keep.add(start + int(np.argmax(np.where(finite, part, -np.inf))))
        if not finite.all():
            keep.add(start + int(np.argmin(finite)))
    chosen = np.array(sorted(keep))
    return xs[chosen], ys[chosen]
