"""Final scores by group: one dot a seed, the mean as a bar, and its spread."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from kdcore.figures import palette
from kdcore.figures.template import frame, plain


def dots(
    rows: pd.DataFrame,
    title: str,
    *,
    teacher: float | None = None,
    guess: float | None = None,
    baseline: str = "",
    scale: float = 100.0,
    dark: bool = False,
) -> go.Figure:
    """One row of dots a group.

    Args:
        rows: columns id (what a click gives back), group, label, method, seed, score (fraction or NaN). teacher, guess:
            scores of the best teacher and of a blind guess, drawn as thin lines. baseline: where the scores are
            differences, the name of what lies at zero.
    """
    groups = list(dict.fromkeys(rows["group"]))[::-1]
    figure = frame(title, "", dark=dark, height=110 + 42 * max(2, len(groups)))
    for row, group in enumerate(groups):
        members = rows[rows["group"] == group]
        _group(figure, members, row, scale, dark)
    figure.update_yaxes(
        tickvals=list(range(len(groups))),
        ticktext=[_name(rows[rows["group"] == group]) for group in groups],
        range=[-0.6, len(groups) - 0.4],
        showgrid=False,
        zeroline=False,
    )
    for value, name, color in (
        (teacher, "best teacher", palette.teacher(dark).color),
        (guess, "blind guess", palette.FAMILIES["none"][dark]),
    ):
        if value is not None and np.isfinite(value):
            level(figure, scale * value, f"{name} {scale * value:.1f}", color, scale * rows["score"].to_numpy(float))
    if baseline:
        color = palette.FAMILIES["none"][dark]
        about = {"text": plain(baseline), "font": {"color": color, "size": 11}}
        figure.add_vline(x=0, line={"color": color, "width": 2}, annotation=about, annotation_position="top")
    figure.update_layout(showlegend=False, margin={"t": 32})
    return figure


def level(figure: go.Figure, x: float, name: str, color: str, values: NDArray[np.float64]) -> None:
    """A thin upright line at x. One that lies far from what is shown is only named at the edge, with an arrow: it would
    press everything else into a corner."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    reach = max(1.0, high - low)
    about = {"text": name, "font": {"color": color, "size": 11}, "showarrow": False}
    if low - reach <= x <= high + reach:
        line = {"color": color, "width": 1.5, "dash": "dot"}
        figure.add_vline(x=x, line=line, annotation=about, annotation_position="top")
        return
    above = x > high
    about["text"] = f"{name} →" if above else f"← {name}"
    side = {"x": 1.0, "xanchor": "right"} if above else {"x": 0.0, "xanchor": "left"}
    figure.add_annotation(xref="paper", yref="paper", y=1.0, yanchor="bottom", **side, **about)


def _group(figure: go.Figure, members: pd.DataFrame, row: int, scale: float, dark: bool) -> None:
    look = palette.style(str(members["method"].iloc[0]), dark)
    values = scale * members["score"].to_numpy(dtype=np.float64)
    known = values[np.isfinite(values)]
    if len(known) > 1:
        figure.add_trace(
            go.Scatter(
                x=[known.mean()],
                y=[row],
                mode="markers",
                marker={
                    "symbol": "line-ns",
                    "size": 22,
                    "color": look.color,
                    "line": {"color": look.color, "width": 3},
                },
                error_x={"type": "data", "array": [known.std(ddof=1)], "color": look.color, "thickness": 1.5},
                name="mean ± std",
                hovertemplate="mean %{x:.2f} ± %{error_x.array:.2f} std<extra></extra>",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=values,
            y=[row] * len(values),
            mode="markers",
            marker={"symbol": look.marker, "size": 10, "color": look.color, "opacity": 0.85},
            name=look.label,
            text=[f"seed {seed:.0f}" for seed in members["seed"]],
            customdata=members["id"].to_numpy(),
            hovertemplate="%{text}: %{x:.2f}<extra></extra>",
        )
    )


def _name(members: pd.DataFrame) -> str:
    return f"{plain(members['label'].iloc[0])} (N={len(members)})"
