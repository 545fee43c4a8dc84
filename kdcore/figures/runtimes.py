"""Score against latency of models as deployed: one marker a runtime, one colour a model, a thin line through it."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from kdcore.export.runtimes import RUNTIMES
from kdcore.figures import palette
from kdcore.figures.template import QUIET, frame, plain

MARKERS = dict(zip(RUNTIMES, ("circle", "diamond", "square", "triangle-down", "cross"), strict=True))
SIZE = 12
NAMED = 8
"""So many models have their names beside a point; the others have them where one points at them."""


def scatter(table: pd.DataFrame, column: str, x_title: str, y_title: str, *, dark: bool = False) -> go.Figure:
    """Points by runtime. A hollow one was timed on a busy machine.

    Args:
        table: one row a model and runtime, of one condition: model, kind, method, runtime, score, busy and `column`.
    """
    figure = frame(x_title, y_title, dark=dark, height=420)
    for place, (model, rows) in enumerate(table.groupby("model", sort=False)):
        _line(figure, str(model), rows.sort_values(column), column, _color(rows.iloc[0], dark), place < NAMED)
    for runtime, marker in MARKERS.items():
        rows = table[table["runtime"] == runtime]
        if len(rows):
            _points(figure, rows, column, RUNTIMES[runtime], marker, dark)
    figure.update_xaxes(type="log", dtick="D2")
    return figure


def _color(row: pd.Series, dark: bool) -> str:
    return palette.style(str(row["method"]), dark).color if row["kind"] == "student" else palette.teacher(dark).color


def _line(figure: go.Figure, model: str, rows: pd.DataFrame, column: str, color: str, named: bool) -> None:
    words = [plain(model) if named and place == 0 else "" for place in range(len(rows))]
    figure.add_trace(go.Scatter(
        x=rows[column], y=rows["score"], mode="lines+text", text=words, textposition="top right", showlegend=False,
        hoverinfo="skip", line={"color": color, "width": 1, "dash": "dot"}, name="", textfont={"size": 11},
    ))  # fmt: skip


def _points(figure: go.Figure, rows: pd.DataFrame, column: str, name: str, marker: str, dark: bool) -> None:
    colors = [_color(row, dark) for _, row in rows.iterrows()]
    symbols = [f"{marker}-open" if busy else marker for busy in rows["busy"]]
    figure.add_trace(go.Scatter(
        x=rows[column], y=rows["score"], mode="markers", showlegend=False, name=name,
        marker={"symbol": symbols, "size": SIZE, "color": colors, "line": {"width": 1.5, "color": colors}},
        text=[plain(model) for model in rows["model"]],
        hovertemplate="%{text}, " + name + "<br>%{x:.3g} ms, %{y:.1f}<extra></extra>",
    ))  # fmt: skip
    figure.add_trace(go.Scatter(  # what the legend shows: the marker, in no model's colour
        x=[None], y=[None], mode="markers", name=name, hoverinfo="skip",
        marker={"symbol": marker, "size": SIZE, "color": QUIET[dark]},
    ))  # fmt: skip
