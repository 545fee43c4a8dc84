"""Attention maps: all heads of all layers as one tiled picture, one head in detail, and differences on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from kdcore.figures import palette
from kdcore.figures.template import INK, frame, plain

GAP = 1
"""Empty cells between two heads of the tiled picture."""


def tiles(maps: ArrayLike) -> NDArray[np.float64]:
    """[layers, heads, tokens, tokens] -> one array, layers from top to bottom, heads from left to right, NaN between.

    The first row of a tile is the first token.
    """
    values = np.asarray(maps, dtype=np.float64)
    layers, heads, tokens, _ = values.shape
    pitch = tokens + GAP
    out = np.full((layers * pitch - GAP, heads * pitch - GAP), np.nan)
    for layer in range(layers):
        for head in range(heads):
            at, left = layer * pitch, head * pitch
            out[at : at + tokens, left : left + tokens] = values[layer, head]
    return out


def grid(
    maps: ArrayLike, title: str, *, top: float, signed: bool = False, first_layer: int = 1, dark: bool = False
) -> go.Figure:
    """Every head at a glance.

    One heat map instead of a plot per head: 144 plots would take the browser seconds to draw.

    Args:
        maps: [layers, heads, tokens, tokens]. top: end of the colour scale, shared by the pictures beside this one.
    """
    values = np.asarray(maps, dtype=np.float64)
    layers, heads, tokens, _ = values.shape
    pitch = tokens + GAP
    figure = frame("Head", "Layer", dark=dark, height=int(90 + min(620, max(130, 110 * layers))), title=title)
    figure.add_trace(
        go.Heatmap(
            z=tiles(values),
            hoverongaps=False,
            hovertemplate="%{z:.3f}<extra></extra>",
            **_scale(top, signed, dark),
        )
    )
    figure.update_xaxes(
        tickvals=[head * pitch + tokens / 2 for head in range(heads)],
        ticktext=[str(head + 1) for head in range(heads)],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=[layer * pitch + tokens / 2 for layer in range(layers)],
        ticktext=[str(layer + first_layer) for layer in range(layers)],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
    )
    return figure


def tile_at(row: int, column: int, tokens: int) -> tuple[int, int]:
    """Layer and head, from 1, of a cell of `grid`. tokens: of the sentence."""
    pitch = tokens + GAP
    return row // pitch + 1, column // pitch + 1


def head(
    values: ArrayLike, tokens: Sequence[str], title: str, *, top: float, signed: bool = False, dark: bool = False
) -> go.Figure:
    """One head: from each token (row) to each token (column). values: [tokens, tokens].

    No colour bar: three of them stand side by side on one scale, which their caption names.
    """
    z = np.asarray(values, dtype=np.float64)
    names = [plain(token) for token in tokens]
    figure = frame("to token", "", dark=dark, height=150 + 20 * max(8, len(names)), title=title)
    places = list(range(len(names)))
    figure.add_trace(
        go.Heatmap(
            z=z,
            x=places,
            y=places,
            xgap=1,
            ygap=1,
            customdata=[[f"{row} → {column}" for column in names] for row in names],
            hovertemplate="%{customdata}<br>%{z:.3f}<extra></extra>",
            showscale=False,
            **_scale(top, signed, dark),
        )
    )
    small = {"tickvals": places, "ticktext": names, "showgrid": False, "zeroline": False, "tickfont.size": 10}
    figure.update_xaxes(tickangle=-90, **small)
    figure.update_yaxes(autorange="reversed", **small)
    return figure


def shared_top(*maps: ArrayLike) -> float:
    """End of a colour scale that holds for all of them: the largest absolute value, at least 0.01."""
    tops = [float(np.nanmax(np.abs(np.asarray(one, dtype=np.float64)), initial=0.0)) for one in maps]
    return max(0.01, *tops)


def uniform(maps: ArrayLike, tolerance: float = 1e-3) -> bool:
    """True where every head looks at all tokens alike, as a model with wrong or untrained weights does."""
    values = np.asarray(maps, dtype=np.float64)
    return bool(values.shape[-1] > 1 and np.ptp(values, axis=-1).max() < tolerance)


def _scale(top: float, signed: bool, dark: bool) -> dict[str, object]:
    bar = {"thickness": 12, "outlinewidth": 0, "tickfont": {"color": INK[dark]}}
    if signed:
        return {"colorscale": palette.diverging(dark), "zmin": -top, "zmax": top, "zmid": 0, "colorbar": bar}
    return {"colorscale": palette.SEQUENTIAL, "zmin": 0.0, "zmax": top, "colorbar": bar}
