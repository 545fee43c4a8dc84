"""Where a score comes from, as a waterfall: each bar begins where the last one ended."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from kdcore.figures import palette
from kdcore.figures.scores import level
from kdcore.figures.template import QUIET, frame, plain

Floats = NDArray[np.float64]
UP, DOWN = ("#0F766E", "#2DD4BF"), ("#B45309", "#F5B041")
"""What a step adds or takes away: two hues that stay apart under colour-blind vision; the sign stands beside them."""

MIN_POINTS = 4.0
"""Least width of the scale that bars are drawn on: a tenth of a point must look like little."""


def waterfall(
    rungs: pd.DataFrame, title: str, *, teacher: float | None = None, scale: float = 100.0, dark: bool = False
) -> go.Figure:
    """One row per step, the first from the axis, the others from where the last run step ended.

    Args:
        rungs: columns label, mean (fraction, NaN where there is no run), gain (over the last step that was run), n.
        teacher: the best teacher's score, a thin line.
    """
    figure = frame(title, "", dark=dark, height=110 + 44 * max(2, len(rungs)))
    means = scale * rungs["mean"].to_numpy(dtype=np.float64)
    gains = scale * rungs["gain"].to_numpy(dtype=np.float64)
    known = np.isfinite(means)
    low, high = (float(means[known].min()), float(means[known].max())) if known.any() else (0.0, 1.0)
    span = max(MIN_POINTS, high - low)
    floor, top = low - 0.25 * span, high + 0.35 * span
    figure.add_trace(_bars(means, gains, rungs["n"].to_numpy(dtype=np.float64), floor, dark))
    for index in range(1, len(means)):
        if np.isfinite(gains[index]):
            before = means[index] - gains[index]
            figure.add_shape(
                type="line", x0=before, x1=before, y0=index - 1, y1=index, line={"color": QUIET[dark], "width": 1},
                layer="below",
            )  # fmt: skip
    if teacher is not None:
        name = f"best teacher {scale * teacher:.1f}"
        level(figure, scale * teacher, name, palette.teacher(dark).color, np.array([low, high]))
        if high < scale * teacher <= high + span:
            top = max(top, scale * teacher + 0.1 * span)
    figure.update_xaxes(range=[floor, top])
    figure.update_yaxes(
        tickvals=list(range(len(means))),
        ticktext=[plain(label) for label in rungs["label"]],
        autorange=False,
        range=[len(means) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
    )
    figure.update_layout(showlegend=False, margin={"t": 32})
    return figure


def _bars(means: Floats, gains: Floats, seeds: Floats, floor: float, dark: bool) -> go.Bar:
    """The first run step from `floor`, each other from where the last one ended; all [rungs]."""
    known = np.isfinite(means)
    first = np.arange(len(means)) == int(np.argmax(known))
    base = np.where(first, floor, means - np.nan_to_num(gains))
    length = np.where(first, means - floor, gains)
    neutral = palette.FAMILIES["none"][dark]
    return go.Bar(
        orientation="h",
        y=list(range(len(means))),
        x=np.where(known, length, 0.0),
        base=np.where(known, base, floor),
        marker={
            "color": [
                neutral if is_first else (UP if gain >= 0 else DOWN)[dark]
                for is_first, gain in zip(first, np.nan_to_num(gains), strict=True)
            ]
        },
        width=0.55,
        name="",
        text=[_text(*step) for step in zip(means, gains, first, strict=True)],
        textposition="outside",
        cliponaxis=False,
        customdata=np.stack([means, seeds], axis=1),
        hovertemplate="%{customdata[0]:.2f} (N=%{customdata[1]})<extra></extra>",
    )


def _text(mean: float, gain: float, first: bool) -> str:
    if not np.isfinite(mean):
        return "no run yet"
    return f"{mean:.1f}" if first or not np.isfinite(gain) else f"{gain:+.1f} → {mean:.1f}"
