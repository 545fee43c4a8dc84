"""Attention maps: all heads of all layers as one tiled picture, one head in detail, and differences on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from kdcore.figures import palette
from kdcore.figures.layer_pair import CHOSEN
from kdcore.figures.template import INK, frame, plain

GAP = 1
"""Empty cells between two heads of the tiled picture."""
FEW_TOKENS = 16
"""Up to so many, the cells of one head are wide enough for lines between them."""


def tiles(maps: ArrayLike) -> NDArray[np.float64]:
    """[layers, heads, rows, columns] -> one array, layers from top to bottom, heads from left to right, NaN between.

    The first row of a tile is the first token.
    """
    values = np.asarray(maps, dtype=np.float64)
    layers, heads, rows, columns = values.shape
    out = np.full((layers * (rows + GAP) - GAP, heads * (columns + GAP) - GAP), np.nan)
    for layer, head in np.ndindex(layers, heads):
        top, left = layer * (rows + GAP), head * (columns + GAP)
        out[top : top + rows, left : left + columns] = values[layer, head]
    return out


def grid(
    maps: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    *,
    top: float,
    signed: bool = False,
    marked: tuple[int, int] | None = None,
    contrast: bool = False,
    dark: bool = False,
) -> go.Figure:
    """Every head at a glance.

    One heat map instead of a plot per head: 144 plots would take the browser seconds to draw.

    Args:
        maps: [layers, heads, rows, columns]. rows, columns: the tokens that look, and those that are looked at.
        top: end of the colour scale, shared by the pictures beside this one. marked: layer and head, from 1, to ring.
        contrast: colours go by the square root of a value, so that small ones can be told apart.
    """
    values = np.asarray(maps, dtype=np.float64)
    layers, heads = values.shape[:2]
    down, across = len(rows) + GAP, len(columns) + GAP
    figure = frame("Head", "Layer", dark=dark, height=int(90 + min(620, max(130, 110 * layers))), title=title)
    figure.add_trace(
        go.Heatmap(
            z=tiles(values),
            x=_places("head", heads, columns),
            y=_places("layer", layers, rows),
            hoverongaps=False,
            hovertemplate="%{y}<br>→ %{x}<br>%{z:.3f}<extra></extra>",
            **_scale(top, signed, contrast, dark),
        )
    )
    bare = {"showgrid": False, "zeroline": False, "showspikes": False}
    figure.update_xaxes(
        tickvals=[head * across + len(columns) // 2 for head in range(heads)],
        ticktext=[str(head + 1) for head in range(heads)],
        **bare,
    )
    figure.update_yaxes(
        tickvals=[layer * down + len(rows) // 2 for layer in range(layers)],
        ticktext=[str(layer + 1) for layer in range(layers)],
        autorange="reversed",
        **bare,
    )
    if marked:
        above, left = (marked[0] - 1) * down, (marked[1] - 1) * across
        corners = {"x0": left - 1, "x1": left + across - 1, "y0": above - 1, "y1": above + down - 1}
        figure.add_shape(type="rect", **corners, line={"color": CHOSEN[dark], "width": 3})
    return figure


def tile_at(row: int, column: int, rows: int, columns: int) -> tuple[int, int]:
    """Layer and head, from 1, of a cell of `grid`. rows, columns: tokens down and across a tile."""
    return row // (rows + GAP) + 1, column // (columns + GAP) + 1


def head(
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    *,
    top: float,
    labels: ArrayLike | None = None,
    signed: bool = False,
    contrast: bool = False,
    dark: bool = False,
) -> go.Figure:
    """One head: from each token (row) to each token (column). No colour bar: three of them share one scale.

    Args:
        values: [rows, columns]. labels: words for each cell, in place of its number. contrast: see `grid`.
    """
    z = np.asarray(values, dtype=np.float64)
    down, across = [plain(token) for token in rows], [plain(token) for token in columns]
    figure = frame("to token", "", dark=dark, height=130 + 15 * max(10, len(down)), title=title)
    texts = [[f"{value:.3f}" for value in row] for row in z] if labels is None else np.asarray(labels).tolist()
    figure.add_trace(
        go.Heatmap(
            z=z,
            x=list(range(len(across))),
            y=list(range(len(down))),
            xgap=1 if len(across) <= FEW_TOKENS else 0,  # between many narrow cells, lines are all one sees
            ygap=1,
            customdata=[[f"{a} → {b}: {texts[i][j]}" for j, b in enumerate(across)] for i, a in enumerate(down)],
            hovertemplate="%{customdata}<extra></extra>",
            showscale=False,
            **_scale(top, signed, contrast, dark),
        )
    )
    small = {"showgrid": False, "zeroline": False, "tickfont.size": 10}
    figure.update_xaxes(tickangle=-90, tickvals=list(range(len(across))), ticktext=across, **small)
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(down))), ticktext=down, **small)
    return figure


def shared_top(*maps: ArrayLike) -> float:
    """End of a colour scale that holds for all of them: the largest absolute value, at least 0.01."""
    tops = [float(np.nanmax(np.abs(np.asarray(values, dtype=np.float64)), initial=0.0)) for values in maps]
    return max(0.01, *tops)


def uniform(maps: ArrayLike, tolerance: float = 1e-3) -> bool:
    """True where every head looks at all tokens alike, as a model with wrong or untrained weights does."""
    values = np.asarray(maps, dtype=np.float64)
    return bool(values.shape[-1] > 1 and np.ptp(values, axis=-1).max() < tolerance)


def _places(what: str, count: int, tokens: Sequence[str]) -> list[str]:
    """A name for each line of the tiled picture, for the hover: token, its number, and the layer or head it is in."""
    gap = [""] * GAP
    names = [
        name
        for number in range(1, count + 1)
        for name in [*(f"{plain(token)} ({index}, {what} {number})" for index, token in enumerate(tokens, 1)), *gap]
    ]
    return [name or f"between {index}" for index, name in enumerate(names[:-GAP])]


def _scale(top: float, signed: bool, contrast: bool, dark: bool) -> dict[str, object]:
    bar = {"thickness": 12, "outlinewidth": 0, "tickfont": {"color": INK[dark]}}
    if signed:
        return {"colorscale": palette.diverging(dark), "zmin": -top, "zmax": top, "zmid": 0, "colorbar": bar}
    colors = palette.root(palette.SEQUENTIAL) if contrast else palette.SEQUENTIAL
    return {"colorscale": colors, "zmin": 0.0, "zmax": top, "colorbar": bar}
