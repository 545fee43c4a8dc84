"""Quality against cost: what nobody beats, and how far seeds move that line."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from kdcore.analysis import groups
from kdcore.analysis.groups import MIN_BAND_SEEDS

Better = Literal["less", "more"]
"""Which cost is good: less (time, size), or more (rows per second)."""


Floats = NDArray[np.float64]


RESAMPLES = 400
"""Draws of seeds behind the band and the shares."""


BAND = (0.1, 0.9)
"""Of the draws, the band holds those between these quantiles."""


PHASES = 120
"""Places along the cost axis where the band is computed."""


def front(cost: ArrayLike, quality: ArrayLike, better: Better = "less") -> NDArray[np.bool_]:
    """Which points nobody beats: no other is at least as cheap and at least as good, and better in one of both.

    Ties stay: two equal points are both on the front. A point with a missing value is not on it.

    Args:
        cost: [points]. quality: [points], high is good.
    """
    c, q = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    c = c if better == "less" else -c
    known = np.isfinite(c) & np.isfinite(q)
    on = np.zeros(len(c), dtype=bool)
    best, cheapest = -np.inf, np.nan
    for index in np.lexsort((-q, c)):
        if known[index] and (q[index] > best or (q[index] == best and c[index] == cheapest)):
            on[index] = True
            best, cheapest = q[index], c[index]
    return on


def points(seen: pd.DataFrame, better: Better = "less") -> pd.DataFrame:
    """What was seen of each seed, as one point a setting: means, spreads, and how surely it is on the front.

    Args:
        seen: one row a run or model: key, label, method, kind ('student', 'teacher', or one of `RIVALS`), condition,
            cost, quality, busy. Rows of one label are one point's seeds; rows with a missing value do not count.

    Returns:
        key, label, method, kind, condition, cost, cost_spread, quality, quality_spread (sample std, 0 where there is
        one seed), n, busy, on_front (by means), share (of the draws of seeds, in which the point is on the front).
    """
    rows = []
    for label, members in seen.groupby("label", sort=False):
        known = members.dropna(subset=["cost", "quality"])
        cost, cost_spread, n = groups.mean_and_std(list(known["cost"]))
        quality, quality_spread, _ = groups.mean_and_std(list(known["quality"]))
        first = members.iloc[0]
        rows.append(
            {
                **{name: first[name] for name in ("key", "method", "kind", "condition")},
                "label": label,
                "cost": cost,
                "cost_spread": float(np.nan_to_num(cost_spread)),
                "quality": quality,
                "quality_spread": float(np.nan_to_num(quality_spread)),
                "n": n,
                "busy": bool(known["busy"].any()),
            }
        )
    table = pd.DataFrame(rows)
    table["on_front"] = front(table["cost"], table["quality"], better)
    costs, qualities = draws(seen)
    fronts = [front(c, q, better) for c, q in zip(costs, qualities, strict=True)]
    table["share"] = np.mean(fronts, axis=0)
    return table


def draws(seen: pd.DataFrame, times: int = RESAMPLES) -> tuple[Floats, Floats]:
    """Means over seeds drawn with replacement, cost and quality of a run together: two arrays [times, points].

    Points stand in the order of their labels' first row. Seeded; one seed draws itself, none gives NaN.
    """
    rng = np.random.default_rng(0)
    costs, qualities = [], []
    for _, members in seen.groupby("label", sort=False):
        known = members[["cost", "quality"]].dropna().to_numpy(np.float64)
        if not len(known):
            known = np.full((1, 2), np.nan)
        drawn = known[rng.integers(len(known), size=(times, len(known)))].mean(axis=1)
        costs.append(drawn[:, 0])
        qualities.append(drawn[:, 1])
    return np.stack(costs, axis=1), np.stack(qualities, axis=1)


def band(seen: pd.DataFrame, better: Better = "less") -> pd.DataFrame:
    """Where the front lies when seeds are drawn anew: at each cost the best quality that is to be had for it.

    Returns:
        cost, low, high: the quantiles `BAND` over the draws, from the first cost at which every draw has a point. Empty
        where no point has `MIN_BAND_SEEDS`.
    """
    known = seen.dropna(subset=["cost", "quality"])
    if known.empty or known.groupby("label").size().max() < MIN_BAND_SEEDS:
        return pd.DataFrame({"cost": [], "low": [], "high": []})
    costs, qualities = draws(known)
    ends = float(costs.min()), float(costs.max())
    places = np.geomspace(*ends, PHASES) if ends[0] > 0 else np.linspace(*ends, PHASES)
    places = np.unique(np.concatenate([places, known.groupby("label")["cost"].mean()]))
    to_be_had = costs[:, :, None] <= places if better == "less" else costs[:, :, None] >= places
    best = np.where(to_be_had, qualities[:, :, None], -np.inf).max(axis=1)
    low, high = np.quantile(best, BAND, axis=0, method="nearest")
    rows = pd.DataFrame({"cost": places, "low": low, "high": high})
    result: pd.DataFrame = rows[np.isfinite(best).all(axis=0)].reset_index(drop=True)
    return result
