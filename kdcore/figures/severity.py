"""A quality of several methods against how badly the data are damaged: a line a method, a band over its seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdcore.analysis.groups import MIN_BAND_SEEDS
from kdcore.figures import palette
from kdcore.figures.template import frame, plain

TEACHER = "teacher"


def lines(
    rows: pd.DataFrame,
    value: str,
    x_title: str,
    y_title: str,
    *,
    ticks: Mapping[float, str],
    scale: float = 1.0,
    dark: bool = False,
) -> go.Figure:
    """Means over seeds; the band is ± the standard deviation where there are three seeds or more, else points only.

    Args:
        rows: one a run and severity: label, method ("teacher" for the teacher), seed, severity and the value.
        ticks: place on the x axis -> its words.
    """
    figure = frame(x_title, y_title, dark=dark, height=380)
    for label, members in rows.groupby("label", sort=False):
        method = str(members["method"].iloc[0])
        look = palette.teacher(dark) if method == TEACHER else palette.style(method, dark)
        found = members.groupby("severity")[value].agg(["mean", "std", "count"])
        x, mean = found.index.to_numpy(np.float64), scale * found["mean"].to_numpy(np.float64)
        if (found["count"] >= MIN_BAND_SEEDS).all() and method != TEACHER:
            half = scale * found["std"].to_numpy(np.float64)
            figure.add_trace(band(x, mean - half, mean + half, look.color, str(label)))
        seeds = "" if method == TEACHER else f" (N={int(found['count'].min())})"
        figure.add_trace(
            go.Scatter(
                x=x, y=mean, mode="lines+markers", name=f"{plain(label)}{seeds}", legendgroup=str(label),
                line={"color": look.color, "dash": look.dash, "width": look.width},
                marker={"symbol": look.marker, "size": 9, "color": look.color},
                hovertemplate="%{y:.3~f}<extra>" + plain(label) + "</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(tickvals=list(ticks), ticktext=list(ticks.values()))
    return figure


def band(x: np.ndarray, low: np.ndarray, high: np.ndarray, color: str, group: str) -> go.Scatter:
    return go.Scatter(
        x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), mode="lines", fill="toself",
        fillcolor=palette.with_opacity(color, 0.15), line={"width": 0}, hoverinfo="skip", showlegend=False,
        legendgroup=group, name="", meta="band",
    )  # fmt: skip
