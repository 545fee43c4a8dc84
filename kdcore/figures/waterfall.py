"""Where a score comes from, as a waterfall: each bar begins where the last one ended."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from kdcore.figures import palette
from kdcore.figures.scores import level
from kdcore.figures.template import INK, QUIET, frame, plain

Floats = NDArray[np.float64]

MIN_POINTS = 4.0
"""Least width of the scale that bars are drawn on: a tenth of a point must look like little."""
FILL = 0.35
"""Opacity of a bar's inside."""


def waterfall(
    rungs: pd.DataFrame, title: str, *, teacher: float | None = None, scale: float = 100.0, dark: bool = False
) -> go.Figure:
    """One row per step: the first is the zero of the scale, the others begin where the last run step ended.

    Bars have the colour of what the step brings in; a whisker is the interval of the step's gain.

    Args:
        rungs: see `ablation.table`. teacher: the best teacher's score, a thin line.
    """
    means = scale * rungs["mean"].to_numpy(dtype=np.float64)
    known = np.isfinite(means)
    zero = float(means[known][0]) if known.any() else 0.0
    ends, gains = means - zero, scale * rungs["gain"].to_numpy(dtype=np.float64)
    start = plain(rungs["label"][known].iloc[0]).removeprefix("+ ") if known.any() else "the first step"
    figure = frame(f"{title}: points over {start}", "", dark=dark, height=110 + 44 * max(2, len(rungs)))
    figure.add_trace(_bars(rungs, ends, gains, scale, dark))
    figure.add_trace(_texts(rungs, ends, gains, scale, dark))
    figure.add_vline(x=0, line={"color": QUIET[dark], "width": 1})
    for index in range(1, len(ends)):
        if np.isfinite(gains[index]):
            before = ends[index] - gains[index]
            figure.add_shape(
                type="line", x0=before, x1=before, y0=index - 1, y1=index, line={"color": QUIET[dark], "width": 1},
                layer="below",
            )  # fmt: skip
    low, high = _extent(rungs, ends, gains, scale)
    span = max(MIN_POINTS, high - low)
    floor, top = low - 0.1 * span, high + 0.6 * span
    if teacher is not None:
        beyond = scale * teacher - zero
        name = f"best teacher {scale * teacher:.1f}"
        level(figure, beyond, name, palette.teacher(dark).color, np.array([low, high]))
        if high < beyond <= high + span:
            top = max(top, beyond + 0.1 * span)
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


def _extent(rungs: pd.DataFrame, ends: Floats, gains: Floats, scale: float) -> tuple[float, float]:
    """From the least to the largest that is drawn; zero is always in it."""
    whiskers = [ends - gains + scale * rungs[edge].to_numpy(dtype=np.float64) for edge in ("low", "high")]
    values = np.concatenate([ends, *whiskers, [0.0]])
    values = values[np.isfinite(values)]
    return float(values.min()), float(values.max())


def _bars(rungs: pd.DataFrame, ends: Floats, gains: Floats, scale: float, dark: bool) -> go.Bar:
    """Each step from where the last one ended; the first has no length. ends, gains: [rungs].

    Bars are pale inside, so that the whisker is seen on a dark colour, too.
    """
    colors = [_color(*kind, dark) for kind in zip(rungs["kind"], rungs["method"], strict=True)]
    edges = {edge: scale * rungs[edge].to_numpy(dtype=np.float64) for edge in ("low", "high")}
    return go.Bar(
        orientation="h",
        y=list(range(len(ends))),
        x=np.nan_to_num(gains),
        base=np.nan_to_num(ends - np.nan_to_num(gains)),
        marker={
            "color": [palette.with_opacity(color, FILL) for color in colors],
            "line": {"color": colors, "width": 2},
        },
        error_x={
            "type": "data",
            "array": edges["high"] - gains,
            "arrayminus": gains - edges["low"],
            "color": INK[dark],
            "thickness": 1.5,
            "width": 5,
        },
        width=0.55,
        name="",
        customdata=np.stack(
            [scale * rungs["mean"], rungs["n"], [_interval(*pair) for pair in zip(*edges.values(), strict=True)]],
            axis=1,
        ),
        hovertemplate="%{customdata[0]:.2f} (N=%{customdata[1]})%{customdata[2]}<extra></extra>",
    )


def _texts(rungs: pd.DataFrame, ends: Floats, gains: Floats, scale: float, dark: bool) -> go.Scatter:
    """What each step gives, right of its bar and its whisker."""
    low, high = (scale * rungs[edge].to_numpy(dtype=np.float64) for edge in ("low", "high"))
    before = ends - np.nan_to_num(gains)
    right = np.nan_to_num(np.fmax(np.fmax(ends, before), before + high))
    return go.Scatter(
        x=right,
        y=list(range(len(ends))),
        mode="text",
        text=[f" {_text(*step)}" for step in zip(ends, scale * rungs["mean"], gains, low, high, strict=True)],
        textposition="middle right",
        textfont={"color": INK[dark], "size": 12},
        cliponaxis=False,
        hoverinfo="skip",
        name="",
    )


def _color(kind: str, method: str, dark: bool) -> str:
    """Of what a step brings in: the teacher's answers are soft targets, a method has its own colour."""
    if kind == "teacher":
        return palette.FAMILIES["soft_targets"][dark]
    return palette.style(method, dark).color if kind == "method" else palette.FAMILIES["none"][dark]


def _text(end: float, mean: float, gain: float, low: float, high: float) -> str:
    if not np.isfinite(end):
        return "no run yet"
    if not np.isfinite(gain):
        return f"{mean:.1f}"
    unsure = np.isfinite(low) and low <= 0 <= high
    return f"{gain:+.1f} → {mean:.1f}{', within seed noise' if unsure else ''}"


def _interval(low: float, high: float) -> str:
    return f"<br>gain {low:+.1f} to {high:+.1f}" if np.isfinite(low) else ""
