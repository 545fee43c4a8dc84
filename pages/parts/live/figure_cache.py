"""Figures of a run that is drawn again and again: made once, then only their new points are sent."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import streamlit as st

from kdcore.analysis import series
from kdcore.figures import curves
from kdcore.figures.template import Figure
from pages.parts.common.keys import LIVE_CACHE
from pages.parts.common.plot_data import PlotData, plot_data
from pages.parts.live.point_cache import CachedPoints

T = TypeVar("T")


def reuse(key: str, made_from: Hashable, make: Callable[[], T]) -> T:
    """What was made last time, for as long as what it was made from is the same."""
    cache = st.session_state.setdefault(LIVE_CACHE, {})
    if key not in cache or cache[key][0] != made_from:
        cache[key] = (made_from, make())
    return cast(T, cache[key][1])


def line_plot(
    key: str,
    points: CachedPoints,
    lines: Callable[[series.Series], list[curves.Line]],
    figure: Callable[[list[curves.Line]], Figure],
    options: Hashable,
) -> PlotData:
    """The plot of these lines: its figure is made anew where the lines look different, else only their points are."""

    def make() -> PlotData:
        current = lines(points.series())
        looks = tuple(line.look for line in current)
        bare = reuse(
            f"{key} figure", (looks, options), lambda: plot_data(figure([curves.bare(look) for look in looks]))
        )
        return bare.with_points((line.x, line.y) for line in current)

    return reuse(key, (points.life, points.version, options), make)
