"""The terms of the loss over the training steps."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import pandas as pd
import streamlit as st

from kdcore.figures import curves
from kdcore.store import RunRow
from pages.parts.common import cards
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import plain
from pages.parts.live.figure_cache import line_plot
from pages.parts.live.point_cache import CachedPoints

SMOOTHING = 0.8  # one batch of a few dozen rows says little; its raw value stays visible
COLUMNS = ["stage", "step", "epoch", "seconds", "kind", "name", "value"]
HOW = (
    "Each point is the {kind} value of one training batch at a logged step: a mean over its rows, in float32. "
    "Smoothing is an exponential average, corrected at its start, over the raw points."
)
TITLES: dict[curves.Kind, str] = {
    "weighted": "**Weighted terms and their sum** (what is minimised)",
    "raw": "**Raw terms** (each in its own unit)",
}


def show(points: CachedPoints, row: RunRow) -> None:
    left, right = st.columns(2, vertical_alignment="bottom")
    smoothing = left.slider(
        "Smoothing",
        0.0,
        0.99,
        SMOOTHING,
        0.01,
        key="live_smoothing",
        bind="query-params",
        help="Exponential average, corrected at its start; raw values stay visible, faint",
    )
    log = right.toggle("Logarithmic loss axis", key="live_log", bind="query-params")
    dark = cards.dark()
    caption = f"{plain(row.name, 60)}, training batches, one seed, smoothing {smoothing:g}, raw values faint."
    for (kind, title), column in zip(TITLES.items(), st.columns(2), strict=True):
        with column:
            st.markdown(title)
            lines = partial(curves.term_lines, kind=kind, smoothing=smoothing, log=log, dark=dark)
            figure = partial(curves.terms_figure, kind=kind, log=log, dark=dark)
            cards.figure(
                partial(line_plot, f"live_{kind}", points, lines, figure, (smoothing, log, dark)),
                f"live_{kind}",
                caption,
                partial(logged_values, row.id, [kind, "loss"] if kind == "weighted" else [kind]),
                follows=f"{row.id} {log}",
                how=HOW.format(kind=kind),
            )


def logged_values(run: str, kinds: list[str], names: Collection[str] = ()) -> pd.DataFrame:
    """All logged values of these kinds."""
    metrics = the_store().metrics([run], kinds=kinds)
    return metrics.loc[metrics["name"].isin(names), COLUMNS] if names else metrics[COLUMNS]
