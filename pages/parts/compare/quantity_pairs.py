"""Any quantity over any other: each run as a track through its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pandas as pd
import streamlit as st

from kdcore.analysis import series
from kdcore.analysis.comparison import Comparison
from kdcore.figures.quantity_pairs import quantity_pairs
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.compare import quantities

HOW = (
    "Both quantities are of the same step of the same run. Scores and logged values are written down at steps of their "
    "own: beside a score stands the last value logged up to its step. The numbers are raw; smoothing is an exponential "
    "average of each of the two over the steps."
)


def choose(titles: Mapping[str, str]) -> str:
    """The quantity on the horizontal axis, tied to `?against=`."""
    picked = st.selectbox(
        "Quantity on the horizontal axis", list(titles), index=list(titles).index("loss"), key="against",
        bind="query-params", format_func=lambda key: titles.get(key, key),
    )  # fmt: skip
    return picked if picked in titles else "loss"


def show(
    store: Store,
    comparison: Comparison,
    keys: tuple[str, str],
    titles: Mapping[str, str],
    read: tuple[pd.DataFrame, pd.DataFrame],
    look: Mapping[str, float | bool],
) -> None:
    """The plot. keys: of the quantities on the horizontal and the vertical axis. read: losses and evaluations.

    look: smoothing, log and log_x of `quantity_pairs`.
    """
    x, y = (quantities.points(store, comparison, key, *read) for key in keys)
    found = series.tracks(comparison.runs, series.join(x, y, _latest(keys)))
    if not found:
        cards.empty("None of the chosen runs has both of these quantities yet.")
        return
    dark = cards.dark()
    titled = [titles[key] for key in keys]
    scales = tuple(100.0 if key in quantities.SCORES else 1.0 for key in keys)
    cards.figure(
        lambda: quantity_pairs(found, *titled, scales=scales, dark=dark, **look),  # type: ignore[arg-type]
        "compare_pairs",
        f"{len(found)} runs, each from its first step to the large mark. Seeds are drawn one by one: a mean or a band "
        "needs an axis that all share.",
        data=pd.concat([_numbers(track, keys) for track in found]),
        follows=f"{keys} {look['log']} {look['log_x']}",
        how=HOW,
        about=quantities.about(comparison, *keys),
    )


def _latest(keys: tuple[str, str]) -> Literal["", "x", "y"]:
    """The logged one, where the other is a score."""
    x, y = (key in quantities.SCORES for key in keys)
    return "" if x == y else "y" if x else "x"


def _numbers(track: series.Track, keys: tuple[str, str]) -> pd.DataFrame:
    x, y = keys if keys[0] != keys[1] else (keys[0], f"{keys[1]} again")
    return pd.DataFrame(
        {"run": track.run, "group": track.label, "seed": track.seed, "step": track.step, x: track.x, y: track.y}
    )
