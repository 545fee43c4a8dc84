"""Curves of several runs on one plot, with a band over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pandas as pd
import streamlit as st

from kdcore.analysis import series
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.series import Curve
from kdcore.figures import curves
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.compare import quantities, quantity_pairs

HOW = (
    "The numbers are raw, without smoothing. A line is the mean over a group's seeds at each point that any of "
    "them logged, each seed interpolated only inside its own range; its band is what the box *Band over seeds* "
    "says. Smoothing is an exponential average of each seed before the mean."
)


ANOTHER = "quantity"
"""In place of a clock on the horizontal axis."""


@dataclass(frozen=True)
class Choice:
    """What a person set. quantity, against: keys of `quantities.titles`; the second is empty where the horizontal axis
    is a clock. band: a key of `curves.BAND_WORDS`, or none."""

    quantity: str
    against: str
    x: curves.X
    band: curves.Band | None
    smoothing: float
    log_y: bool
    log_x: bool

    @property
    def score(self) -> bool:
        return self.quantity in quantities.SCORES


def show(store: Store, comparison: Comparison, losses: pd.DataFrame, evaluations: pd.DataFrame) -> None:
    titles = quantities.titles(store, comparison)
    choice = _controls(titles, bool(series.mean_tokens(comparison.facts)))
    if choice.against:
        look = {"smoothing": choice.smoothing, "log": choice.log_y, "log_x": choice.log_x}
        keys = (choice.against, choice.quantity)
        quantity_pairs.show(store, comparison, keys, titles, (losses, evaluations), look)
        return
    lines = _lines(store, comparison, choice, losses, evaluations)
    if not lines:
        cards.empty("None of the chosen runs has logged this quantity yet.")
        return
    _draw(lines, choice, titles[choice.quantity], comparison)


def _controls(titles: dict[str, str], tokens: bool) -> Choice:
    """tokens: whether any run has said how long its rows are."""
    left, right, more = st.columns([3, 2, 1], vertical_alignment="bottom")
    quantity = left.selectbox(
        "Quantity", list(titles), key="what", bind="query-params", format_func=lambda key: titles.get(key, key)
    )
    band = right.selectbox(
        "Band over seeds", [*curves.BAND_WORDS, "none"], key="band", bind="query-params",
        format_func=lambda key: curves.BAND_WORDS.get(key, "every seed"),
        help="The interval is that of the mean by Student's t: it needs two seeds. The other bands need three",
    )  # fmt: skip
    clocks = {key: title for key, title in curves.X_TITLES.items() if tokens or key != "tokens"}
    x = st.segmented_control(
        "Horizontal axis", [*clocks, ANOTHER], key="x", bind="query-params", default="step", required=True,
        format_func=lambda key: curves.X_TITLES.get(key, "Another quantity"),
    )  # fmt: skip
    against = quantity_pairs.choose(titles) if x == ANOTHER else ""
    with more.popover("Axes", icon=":material/tune:", width="stretch"):
        smoothing = st.slider(
            "Smoothing", 0.0, 0.99, 0.0, 0.01, key="sm", bind="query-params",
            help="Exponential average, corrected at its start; raw lines stay visible behind",
        )  # fmt: skip
        log_y = st.toggle("Log scale, vertical", key="logy", bind="query-params")
        log_x = st.toggle("Log scale, horizontal", key="logx", bind="query-params")
    return Choice(
        quantity if quantity in titles else "dev",
        against,
        cast(curves.X, x if x in clocks else "step"),
        cast(curves.Band, band) if band in curves.BAND_WORDS else None,
        float(smoothing or 0.0),
        bool(log_y),
        bool(log_x),
    )


def _lines(
    store: Store, comparison: Comparison, choice: Choice, losses: pd.DataFrame, evaluations: pd.DataFrame
) -> list[Curve]:
    """The chosen quantity of each run that counts."""
    kind, _, name = choice.quantity.partition(".")
    metrics = store.metrics(list(comparison.runs["id"]), kinds=[kind]) if name else losses
    metrics, evaluations = (
        series.with_rows_seen(points, comparison.settings, comparison.facts) for points in (metrics, evaluations)
    )
    if choice.score:
        select = choice.quantity == "select"
        return series.score_curves(comparison.runs, evaluations, metrics, comparison.metric, select, choice.x)
    return series.loss_curves(comparison.runs, metrics, kind, name or "loss", choice.x)


def _draw(lines: list[Curve], choice: Choice, title: str, comparison: Comparison) -> None:
    dark = cards.dark()
    columns = [
        pd.DataFrame(
            {"run": line.run, "group": line.label, "seed": line.seed, choice.x: line.x, choice.quantity: line.y}
        )
        for line in lines
    ]
    cards.figure(
        lambda: curves.compare(
            lines, choice.x, title, smoothing=choice.smoothing, log=choice.log_y, log_x=choice.log_x,
            band=choice.band, scale=100.0 if choice.score else 1.0, dark=dark, markers=choice.score,
        ),
        "compare_curves",
        f"{len(lines)} runs. {_band_note(choice.band)}",
        data=pd.concat(columns),
        follows=f"{choice.quantity} {choice.x} {choice.log_x} {choice.log_y}",
        how=HOW,
        about=quantities.about(comparison, choice.quantity),
    )  # fmt: skip


def _band_note(band: curves.Band | None) -> str:
    if band is None:
        return "Each seed is a line of its own."
    if band == "ci":
        return f"Bands: {curves.LEVEL:.0%} interval of the mean (t). It needs two seeds; a single one is a line."
    return f"Groups of fewer than {curves.fewest_seeds(band)} seeds are drawn seed by seed."
