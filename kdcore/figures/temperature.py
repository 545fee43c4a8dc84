"""One row's soft targets: bars of both distributions at a temperature, and the soft term over all temperatures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from kdcore.figures import palette
from kdcore.figures.template import INK, PAGE, QUIET, frame, plain
from kdcore.probes.temperature import Softened, limit, soften

COLDEST, HOTTEST = 0.5, 20.0
"""Temperatures that are drawn."""


def bars(now: Softened, plainly: Softened, labels: Sequence[str], color: str, dark: bool = False) -> go.Figure:
    """Probability of each class for teacher and student; an outline shows it at T = 1.

    Args:
        now, plainly: the row at the chosen temperature and at 1. labels: of the classes. color: the student's.
    """
    figure = frame("", "Probability", dark=dark, height=330)
    names = [plain(label) for label in labels]
    for name, at_t, at_one, ink in (
        ("Teacher", now.teacher, plainly.teacher, palette.teacher(dark).color),
        ("Student", now.student, plainly.student, color),
    ):
        figure.add_trace(
            go.Bar(
                x=names, y=at_t, name=name, offsetgroup=name, marker={"color": ink, "line": {"width": 0}},
                text=[f"{value:.2f}" for value in at_t], textposition="auto", cliponaxis=False, textangle=0,
                insidetextfont={"color": PAGE[dark], "size": 13}, outsidetextfont={"color": INK[dark], "size": 13},
                customdata=at_one,
                hovertemplate=f"{name}, %{{x}}<br>%{{y:.3f}} at T = {now.temperature:g}<br>%{{customdata:.3f}} at T = 1"
                "<extra></extra>",
            )
        )  # fmt: skip
        figure.add_trace(
            go.Bar(
                x=names, y=at_one, name=f"{name} at T = 1", offsetgroup=name, showlegend=False, hoverinfo="skip",
                marker={"color": "rgba(0,0,0,0)", "line": {"color": QUIET[dark], "width": 1.5}},
            )
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.35, bargroupgap=0.08)
    figure.update_yaxes(range=[0, 1.08], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_xaxes(title=None, showgrid=False)
    return figure


def pull(
    teacher_logits: ArrayLike, student_logits: ArrayLike, temperature: float, color: str, dark: bool = False
) -> go.Figure:
    """T^2 KL of one row over T, with the chosen temperature and the limit for large T."""
    figure = frame("Temperature T", "T² · KL(T) (nats)", dark=dark, height=330)
    grid = np.geomspace(COLDEST, HOTTEST, 80)
    values = [soften(teacher_logits, student_logits, t).loss for t in grid]
    now = soften(teacher_logits, student_logits, temperature)
    figure.add_trace(
        go.Scatter(
            x=grid, y=values, mode="lines", line={"color": color, "width": 2.5}, name="soft term",
            hovertemplate="T = %{x:.2f}: %{y:.4g}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[temperature], y=[now.loss], mode="markers", name="here",
            marker={"color": color, "size": 13, "line": {"color": INK[dark], "width": 2}},
            hovertemplate="T = %{x:.2f}: %{y:.4g}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_hline(
        y=limit(teacher_logits, student_logits),
        line={"color": QUIET[dark], "width": 1, "dash": "dot"},
        annotation={"text": "limit: squared error of logits", "font": {"color": QUIET[dark], "size": 11}},
        annotation_position="top left",
    )
    ticks = [0.5, 1, 2, 5, 10, 20]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(showlegend=False)
    return figure
