"""Curves of several runs on one plot, with a band over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pandas as pd
import streamlit as st

from kdcore.analysis import series
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.groups import MIN_BAND_SEEDS
from kdcore.analysis.series import Curve
from kdcore.figures import curves
from kdcore.figures.template import plain as figure_plain
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.text import metric_title

HOW = (
    "The numbers are raw, without smoothing. A line is the mean over a group's seeds at each point that any of "
    "them logged, each seed interpolated only inside its own range; its band is what the box *Band over seeds* "
    "says. Smoothing is an exponential average of each seed before the mean."
)


@dataclass(frozen=True)
class Choice:
    """What a person set. quantity: dev, select, loss, or `kind.term`. band: a key of `curves.BAND_WORDS`, or none."""

    quantity: str
    x: curves.X
    band: curves.Band | None
    smoothing: float
    log_y: bool
    log_x: bool

    @property
    def score(self) -> bool:
        return self.quantity in ("dev", "select")


def show(store: Store, comparison: Comparison, losses: pd.DataFrame, evaluations: pd.DataFrame) -> None:
    quantities = _quantities(store, comparison)
    choice = _controls(quantities)
    lines = _lines(store, comparison, choice, losses, evaluations)
    if not lines:
        cards.empty("None of the chosen runs has logged this quantity yet.")
        return
    _draw(lines, choice, quantities[choice.quantity])


def _quantities(store: Store, comparison: Comparison) -> dict[str, str]:
    """Key -> title of what can be drawn."""
    title = metric_title(comparison.metric)
    terms = [item for item in store.quantities(list(comparison.runs["id"])) if item[0] in ("raw", "weighted")]
    return {
        "dev": f"{title}, dev split",
        "select": f"{title}, select",
        "loss": "Loss (weighted sum)",
        **{f"{kind}.{name}": f"Term {figure_plain(name)} ({kind})" for kind, name in terms},
    }


def _controls(quantities: dict[str, str]) -> Choice:
    left, right = st.columns(2)
    quantity = left.selectbox(
        "Quantity", list(quantities), key="what", bind="query-params",
        format_func=lambda key: quantities.get(key, key),
    )  # fmt: skip
    band = right.selectbox(
        "Band over seeds", [*curves.BAND_WORDS, "none"], key="band", bind="query-params",
        format_func=lambda key: curves.BAND_WORDS.get(key, "every seed"),
    )  # fmt: skip
    x = st.segmented_control(
        "Horizontal axis", list(curves.X_TITLES), key="x", bind="query-params", default="step", required=True,
        format_func=lambda key: curves.X_TITLES.get(key, key),
    )  # fmt: skip
    left, middle, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    smoothing = left.slider(
        "Smoothing", 0.0, 0.99, 0.0, 0.01, key="sm", bind="query-params",
        help="Exponential average, corrected at its start; raw lines stay visible behind",
    )  # fmt: skip
    log_y = middle.toggle("Log scale, vertical", key="logy", bind="query-params")
    log_x = right.toggle("Log scale, horizontal", key="logx", bind="query-params")
    return Choice(
        quantity if quantity in quantities else "dev",
        cast(curves.X, x if x in curves.X_TITLES else "step"),
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
    metrics, evaluations = (series.with_rows_seen(points, comparison.settings) for points in (metrics, evaluations))
    if choice.score:
        select = choice.quantity == "select"
        return series.score_curves(comparison.runs, evaluations, metrics, comparison.metric, select, choice.x)
    return series.loss_curves(comparison.runs, metrics, kind, name or "loss", choice.x)


def _draw(lines: list[Curve], choice: Choice, title: str) -> None:
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
        f"{len(lines)} runs. Groups of fewer than {MIN_BAND_SEEDS} seeds are drawn seed by seed.",
        data=pd.concat(columns),
        follows=f"{choice.quantity} {choice.x} {choice.log_x} {choice.log_y}",
        how=HOW,
    )  # fmt: skip
