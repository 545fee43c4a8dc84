"""Attention with one number a head, and one head as lines from token to token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from kdcore.figures import palette
from kdcore.figures.layer_pair import CHOSEN
from kdcore.figures.template import INK, QUIET, frame, outline, plain

MOST_NUMBERS = 200
"""Cells up to which their numbers are written in them."""
LEAST = 0.05
"""Of the scale's end: weaker lines are not drawn; there are hundreds of them and nobody could see one."""
SHADES = 6
"""Groups of lines of like strength; each is one trace."""


def overview(
    values: ArrayLike,
    title: str,
    unit: str,
    *,
    top: float,
    low_is_near: bool = False,
    marked: tuple[int, int] | None = None,
    dark: bool = False,
) -> go.Figure:
    """One number a head, layers from top to bottom, heads from left to right.

    Args:
        values: [layers, heads]. unit: what the number is, for the hover. top: end of the colour scale. low_is_near:
            the scale runs the other way, so that what is near is bright. marked: layer and head, from 1, to ring.
    """
    z = np.asarray(values, dtype=np.float64)
    layers, heads = z.shape
    figure = frame("", "Layer", dark=dark, height=76 + 24 * max(3, layers), title=f"{title}: heads")
    figure.add_trace(
        go.Heatmap(
            z=z,
            x=list(range(1, heads + 1)),
            y=list(range(1, layers + 1)),
            xgap=2,
            ygap=2,
            zmin=0.0,
            zmax=top,
            colorscale=f"{palette.SEQUENTIAL}{'_r' if low_is_near else ''}",
            texttemplate="%{z:.2f}" if z.size <= MOST_NUMBERS else None,
            textfont={"size": 11},
            showscale=False,
            hovertemplate=f"layer %{{y}}, head %{{x}}<br>{unit} %{{z:.3f}}<extra></extra>",
        )
    )
    if marked:
        outline(figure, *marked, {"color": CHOSEN[dark], "width": 3})
    figure.update_xaxes(dtick=1, showgrid=False, zeroline=False)
    figure.update_yaxes(dtick=1, showgrid=False, zeroline=False, autorange="reversed")
    return figure


def lines(
    values: ArrayLike, rows: Sequence[str], columns: Sequence[str], title: str, *, top: float, dark: bool = False
) -> go.Figure:
    """One head as lines: from each token (left) to those it attends to (right), the stronger the more opaque.

    Args:
        values: [rows, columns]. top: the weight of a line in full colour.
    """
    z = np.asarray(values, dtype=np.float64)
    tallest = max(len(rows), len(columns))
    figure = frame("", "", dark=dark, height=130 + 15 * max(10, tallest), title=title)
    color = palette.FAMILIES["attention"][dark]
    shade = np.minimum(np.floor(SHADES * np.nan_to_num(z) / top), SHADES - 1)
    for number in range(SHADES):
        ends = np.argwhere((shade == number) & (np.nan_to_num(z) >= LEAST * top))
        if len(ends):
            x = np.tile([0.0, 1.0, np.nan], len(ends))
            y = np.stack([ends[:, 0], ends[:, 1], np.full(len(ends), np.nan)], axis=1).ravel()
            look = {"color": palette.with_opacity(color, (number + 1) / SHADES), "width": 0.8 + 2.2 * number / SHADES}
            figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=look, hoverinfo="skip", showlegend=False))
    for place, tokens, side in ((0.0, rows, "middle left"), (1.0, columns, "middle right")):
        figure.add_trace(_column(place, tokens, side, dark))
    figure.update_layout(margin={"l": 8, "r": 8, "b": 24})
    figure.update_xaxes(visible=False, range=[-0.45, 1.45], fixedrange=True)
    figure.update_yaxes(visible=False, range=[tallest - 0.4, -0.6], fixedrange=True)
    return figure


def _column(x: float, tokens: Sequence[str], side: str, dark: bool) -> go.Scatter:
    return go.Scatter(
        x=[x] * len(tokens),
        y=list(range(len(tokens))),
        mode="markers+text",
        text=[plain(token) for token in tokens],
        textposition=side,
        textfont={"size": 11, "color": INK[dark]},
        marker={"size": 4, "color": QUIET[dark]},
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )
