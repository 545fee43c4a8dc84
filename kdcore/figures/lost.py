"""What a student lost: the gap over sizes, rows in four cells, and what predicts a lost row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdcore.figures import palette
from kdcore.figures.template import INK, PAGE, QUIET, frame, outline, plain

CELLS = ("both right", "lost", "gained", "neither")


def size_map(
    sizes: pd.DataFrame,
    value: str,
    title: str,
    *,
    top: float,
    own: tuple[int, int] | None = None,
    scale: float = 100.0,
    dark: bool = False,
) -> go.Figure:
    """One number over layers (upwards) and heads (to the right); sizes that were not trained are empty.

    Args:
        sizes: columns layers, heads and the value (fraction); low and high of the gap, n seeds. top: end of the colour
            scale, in points. own: layers and heads that are outlined.
    """
    layers, heads = (sorted(set(sizes[name])) for name in ("layers", "heads"))
    table = sizes.set_index(["layers", "heads"]).reindex(pd.MultiIndex.from_product([layers, heads]))
    shape = (len(layers), len(heads))
    z = scale * table[value].to_numpy(np.float64).reshape(shape)
    text = np.array([_cell(row, value, scale) for _, row in table.iterrows()], dtype=object).reshape(shape)
    figure = frame("Attention heads", "Layers", dark=dark, height=110 + 52 * max(3, len(layers)), title=title)
    figure.add_trace(
        go.Heatmap(
            z=z, x=list(range(len(heads))), y=list(range(len(layers))), xgap=2, ygap=2, zmin=0, zmax=max(top, 1.0),
            colorscale=palette.SEQUENTIAL, text=text, texttemplate="%{text}",
            hovertemplate="%{z:.1f} points<extra></extra>", name="",
            colorbar={"thickness": 12, "outlinewidth": 0, "tickfont": {"color": INK[dark]}},
        )
    )  # fmt: skip
    if own is not None and own[0] in layers and own[1] in heads:
        outline(figure, layers.index(own[0]), heads.index(own[1]), {"color": "#E11D48", "width": 3})
    figure.update_xaxes(tickvals=list(range(len(heads))), ticktext=list(map(str, heads)), showgrid=False)
    figure.update_yaxes(tickvals=list(range(len(layers))), ticktext=list(map(str, layers)), showgrid=False)
    return figure


def _cell(row: pd.Series, value: str, scale: float) -> str:
    if not np.isfinite(row[value]):
        return ""
    words = f"{scale * row[value]:.1f}"
    if value == "gap" and np.isfinite(row["low"]):
        words += f"<br>{scale * row['low']:.1f} to {scale * row['high']:.1f}"
    return words


def four_cells(seeds: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Dev rows by who is right, one bar a seed.

    Args:
        seeds: columns seed and `CELLS` (rows).
    """
    figure = frame("Dev rows", "", dark=dark, height=110 + 34 * max(2, len(seeds)))
    neutral = palette.FAMILIES["none"][dark]
    colors = (neutral, palette.LOST[dark], palette.GAINED[dark], palette.with_opacity(neutral, 0.35))
    inks = (PAGE[dark], PAGE[dark], PAGE[dark], INK[dark])
    for name, color, ink in zip(CELLS, colors, inks, strict=True):
        figure.add_trace(
            go.Bar(
                x=seeds[name], y=list(range(len(seeds))), orientation="h", name=name, text=seeds[name],
                textposition="inside", insidetextanchor="middle", textangle=0, insidetextfont={"color": ink},
                marker={"color": color, "line": {"color": PAGE[dark], "width": 1}},
                hovertemplate=f"{name}: %{{x}} rows<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(
        barmode="stack", bargap=0.35, legend_traceorder="normal", uniformtext={"minsize": 10, "mode": "hide"}
    )
    figure.update_yaxes(
        tickvals=list(range(len(seeds))), ticktext=[f"seed {seed}" for seed in seeds["seed"]], autorange="reversed",
        showgrid=False,
    )  # fmt: skip
    return figure


def _ticks(values: np.ndarray) -> list[float]:
    """Round numbers on a logarithmic axis, close to each other where the values are."""
    logs = np.log10(values[np.isfinite(values) & (values > 0)])
    narrow = not len(logs) or np.ptp(np.append(logs, 0)) < 0.8
    steps = (1, 1.5, 2, 3, 5, 7) if narrow else (1, 2, 5)
    return [float(f"{step * 10.0**power:g}") for power in range(-3, 4) for step in steps]


def odds(table: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Odds ratios with their intervals on a logarithmic scale; right of 1: the more of it, the more rows are lost.

    Args:
        table: columns feature, unit, ratio, low, high.
    """
    figure = frame("Odds ratio of being lost", "", dark=dark, height=110 + 38 * max(2, len(table)))
    ratio, low, high = (table[name].to_numpy(np.float64) for name in ("ratio", "low", "high"))
    figure.add_trace(
        go.Scatter(
            x=ratio, y=list(range(len(table))), mode="markers",
            marker={"symbol": "circle", "size": 10, "color": palette.LOST[dark]},
            error_x={"type": "data", "array": np.nan_to_num(high - ratio), "arrayminus": np.nan_to_num(ratio - low),
                     "color": INK[dark], "thickness": 1.5, "width": 5},
            customdata=np.stack([low, high], axis=1), name="",
            hovertemplate="%{x:.2f} (%{customdata[0]:.2f} to %{customdata[1]:.2f})<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vline(x=1, line={"color": QUIET[dark], "width": 1.5, "dash": "dot"})
    figure.update_xaxes(type="log", tickvals=_ticks(np.concatenate([ratio, low, high])))
    figure.update_yaxes(
        tickvals=list(range(len(table))),
        ticktext=[f"{plain(row.feature)}<br>({plain(row.unit)})" for row in table.itertuples()],
        range=[len(table) - 0.4, -0.6], autorange=False, showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_layout(showlegend=False)
    return figure
