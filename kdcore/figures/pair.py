"""A student layer and a teacher layer: the pair in the matrix, and the one layer against all of the other model."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from kdcore.figures import palette
from kdcore.figures.layers import MEASURES
from kdcore.figures.template import QUIET, frame, outline

CHOSEN = ("#0891B2", "#22D3EE")
"""The ring of what a person chose; the method's own pairs are outlined in red."""


def ring(figure: go.Figure, student: int, teacher: int, dark: bool = False) -> go.Figure:
    """Marks one cell of `layers.matrix` as the chosen one."""
    outline(figure, student, teacher, {"color": CHOSEN[dark], "width": 3, "dash": "dot"}, half=0.42)
    return figure


def profile(
    values: ArrayLike, measure: str, student: int, teacher: int, matched: int | None = None, dark: bool = False
) -> go.Figure:
    """One student layer against all teacher layers, the chosen one ringed.

    Args:
        values: [teacher layers + 1, student layers + 1]. matched: the teacher layer that the method matches with it.
    """
    line = np.asarray(values, dtype=np.float64)[:, student]
    title, _ = MEASURES.get(measure, (measure, ""))
    figure = frame("Teacher layer (0 = embeddings)", title, dark=dark, height=300)
    if matched is not None:
        figure.add_vline(
            x=matched,
            line={"color": "#E11D48", "width": 2, "dash": "dot"},
            annotation={"text": "matched by the method", "font": {"color": QUIET[dark], "size": 11}},
            annotation_position="top right" if matched < len(line) / 2 else "top left",
        )
    figure.add_trace(
        go.Scatter(
            x=list(range(len(line))),
            y=line,
            mode="lines+markers",
            name=f"student layer {student}",
            line={"color": palette.term_color(1, dark), "width": 2},
            marker={"size": 9},
            hovertemplate="teacher layer %{x}: %{y:.3f}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[teacher],
            y=[line[teacher]],
            mode="markers",
            name="chosen pair",
            marker={"size": 18, "symbol": "circle-open", "color": CHOSEN[dark], "line": {"width": 3}},
            hoverinfo="skip",
        )
    )
    figure.update_xaxes(dtick=1)
    if measure == "cka":
        figure.update_yaxes(range=[0, 1.04])
    else:
        figure.update_yaxes(rangemode="tozero")
    figure.update_layout(showlegend=False)
    return figure


def place_of(values: ArrayLike, measure: str, student: int, teacher: int) -> int:
    """How near this teacher layer is among all, seen from the student layer: 1 for the nearest. NaN counts as last."""
    line = np.asarray(values, dtype=np.float64)[:, student]
    far = np.where(np.isnan(line), np.inf, -line if measure == "cka" else line)
    return int((far < far[teacher]).sum()) + 1
