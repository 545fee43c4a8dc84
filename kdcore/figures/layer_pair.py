"""A student layer and a teacher layer: the pair in the matrix, and the one layer against all of the other model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from kdcore.figures import palette
from kdcore.figures.layers import MEASURES, SIMILARITIES
from kdcore.figures.template import QUIET, frame, outline, plain

CHOSEN = ("#0891B2", "#22D3EE")
"""The ring of what a person chose; the method's own pairs are outlined in red."""

SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up")
"""Of lines, beside their colours: five and six, so that thirty pairs look different, with or without colour vision."""


def ring(figure: go.Figure, student: int, teacher: int, dark: bool = False) -> go.Figure:
    """Marks one cell of `layers.matrix` as the chosen one."""
    outline(figure, student, teacher, {"color": CHOSEN[dark], "width": 3, "dash": "dot"}, half=0.42)
    return figure


def profile(
    values: ArrayLike, measure: str, student: int, teacher: int, matched: Sequence[int] = (), dark: bool = False
) -> go.Figure:
    """One student layer against all teacher layers, the chosen one ringed.

    Args:
        values: [teacher layers + 1, student layers + 1]. matched: the teacher layers that the method
            matches with it.
    """
    line = np.asarray(values, dtype=np.float64)[:, student]
    title, _ = MEASURES.get(measure, (measure, ""))
    figure = frame("Teacher layer (0 = embeddings)", title, dark=dark, height=300)
    for number, layer in enumerate(matched):
        figure.add_vline(
            x=layer,
            line={"color": "#E11D48", "width": 2, "dash": "dot"},
            annotation={"text": "" if number else "matched by the method", "font": {"color": QUIET[dark], "size": 11}},
            annotation_position="top right" if layer < len(line) / 2 else "top left",
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
    if measure in SIMILARITIES:
        figure.update_yaxes(range=[0, 1.04])
    else:
        figure.update_yaxes(rangemode="tozero")
    figure.update_layout(showlegend=False)
    return figure


def place_of(values: ArrayLike, measure: str, student: int, teacher: int) -> int:
    """How near this teacher layer is among all, seen from the student layer: 1 for the nearest. NaN counts as last."""
    line = np.asarray(values, dtype=np.float64)[:, student]
    far = np.where(np.isnan(line), np.inf, -line if measure in SIMILARITIES else line)
    return int((far < far[teacher]).sum()) + 1


@dataclass(frozen=True)
class Line:
    """A pair of layers over training steps. pair: its number, which gives the colour. beside: of the second run."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    pair: int
    beside: bool = False


def points(lines: Sequence[Line], measure: str) -> pd.DataFrame:
    """The lines' points: pair, step and the measure."""
    rows = [(line.name, *point) for line in lines for point in zip(line.steps, line.values, strict=True)]
    return pd.DataFrame(rows, columns=["pair", "step", measure])


def course(lines: Sequence[Line], measure: str, marked: Mapping[str, int], dark: bool = False) -> go.Figure:
    """How pairs of layers come together while training; the second run's are dashed.

    Args:
        marked: a word and the step it stands at: the moment that is looked at.
    """
    title, _ = MEASURES.get(measure, (measure, ""))
    figure = frame("Training step", title, dark=dark, height=340)
    for line in lines:
        figure.add_trace(
            go.Scatter(
                x=list(line.steps),
                y=list(line.values),
                mode="lines+markers",
                name=plain(line.name),
                line={"color": palette.term_color(line.pair, dark), "dash": "dash" if line.beside else "solid"},
                marker={"symbol": SYMBOLS[line.pair % len(SYMBOLS)], "size": 8},
                hovertemplate="step %{x}: %{y:.3f}",
            )
        )
    last = max((step for line in lines for step in line.steps), default=0)
    for word, step in marked.items():
        figure.add_vline(
            x=step,
            line={"color": CHOSEN[dark], "width": 2, "dash": "dot"},
            annotation={"text": plain(word), "font": {"color": QUIET[dark], "size": 11}},
            annotation_position="top right" if step < last / 2 else "top left",
        )
    if measure in SIMILARITIES:
        figure.update_yaxes(range=[0, 1.04])
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure
