"""Where a score comes from, as a waterfall: each bar begins where the last one ended."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdcore.figures import palette
from kdcore.figures.scores import level
from kdcore.figures.template import QUIET, frame, plain

UP, DOWN = ("#0F766E", "#2DD4BF"), ("#B45309", "#F5B041")
"""What a step adds or takes away: two hues that stay apart under colour-blind vision; the sign stands beside them."""

FEWEST_POINTS = 4.0
"""Least width of the scale that bars are drawn on: a tenth of a point must look like little."""


def waterfall(
    rungs: pd.DataFrame, title: str, *, teacher: float | None = None, scale: float = 100.0, dark: bool = False
) -> go.Figure:
    """One row a step, the first from the axis, the others from where the last run step ended.

    Args:
        rungs: columns label, mean (fraction, NaN where there is no run), gain (over the last step that was run), n.
        teacher: the best teacher's score, a thin line.
    """
    figure = frame(title, "", dark=dark, height=110 + 44 * max(2, len(rungs)))
    means = scale * rungs["mean"].to_numpy(dtype=np.float64)
    gains = scale * rungs["gain"].to_numpy(dtype=np.float64)
    known = np.isfinite(means)
    low, high = (float(means[known].min()), float(means[known].max())) if known.any() else (0.0, 1.0)
    room = max(FEWEST_POINTS, high - low)
    floor = low - 0.25 * room
    first = int(np.argmax(known))
    base = np.where(np.arange(len(means)) == first, floor, means - np.nan_to_num(gains))
    length = np.where(np.arange(len(means)) == first, means - floor, gains)
    neutral = palette.FAMILIES["none"][dark]
    colors = [
        neutral if place == first else (UP if gain >= 0 else DOWN)[dark]
        for place, gain in enumerate(np.nan_to_num(gains))
    ]
    figure.add_trace(
        go.Bar(
            orientation="h",
            y=list(range(len(means))),
            x=np.where(known, length, 0.0),
            base=np.where(known, base, floor),
            marker={"color": colors},
            width=0.55,
            name="",
            text=[
                _text(mean, gain, place == first) for place, (mean, gain) in enumerate(zip(means, gains, strict=True))
            ],
            textposition="outside",
            cliponaxis=False,
            customdata=np.stack([means, rungs["n"].to_numpy(dtype=np.float64)], axis=1),
            hovertemplate="%{customdata[0]:.2f} (N=%{customdata[1]})<extra></extra>",
        )
    )
    for place in range(1, len(means)):
        if np.isfinite(gains[place]):
            before = means[place] - gains[place]
            figure.add_shape(
                type="line", x0=before, x1=before, y0=place - 1, y1=place, line={"color": QUIET[dark], "width": 1},
                layer="below",
            )  # fmt: skip
    top = high + 0.35 * room
    if teacher is not None:
        words = f"best teacher {scale * teacher:.1f}"
        level(figure, scale * teacher, words, palette.teacher(dark).color, np.array([low, high]))
        if high < scale * teacher <= high + room:
            top = max(top, scale * teacher + 0.1 * room)
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


def _text(mean: float, gain: float, first: bool) -> str:
    if not np.isfinite(mean):
        return "no run yet"
    return f"{mean:.1f}" if first or not np.isfinite(gain) else f"{gain:+.1f} → {mean:.1f}"
