"""Quality against cost, with the line of what nobody beats."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from kdcore.figures import palette
from kdcore.figures.template import QUIET, frame, plain


def front(cost: ArrayLike, quality: ArrayLike) -> NDArray[np.bool_]:
    """Which points nobody beats: no other is at least as cheap and at least as good, and better in one of both.

    Ties stay: two equal points are both on the front. A point with a missing value is not on it.

    Args:
        cost: [points], low is good. quality: [points], high is good.
    """
    c, q = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    known = np.isfinite(c) & np.isfinite(q)
    on = np.zeros(len(c), dtype=bool)
    best = -np.inf
    order = [at for at in np.lexsort((-q, c)) if known[at]]
    for at in order:
        same = on & (c == c[at]) & (q == q[at])
        if q[at] > best or same.any():
            on[at] = True
            best = max(best, q[at])
    return on


def scatter(
    points: pd.DataFrame, x_title: str, y_title: str, *, teacher_lines: bool = True, dark: bool = False
) -> go.Figure:
    """Points by method, the front as steps, dominated points faint, teachers as stars with lines at 97 % and 99 %.

    Args:
        points: columns key (what a click gives back), label, method ('teacher' for teachers), cost, quality (as shown),
            cost_spread, quality_spread (0 where unknown), n (seeds), hardware. All rows must come from one hardware.

    Raises:
        ValueError: rows from different hardware, which cannot stand on one axis.
    """
    places = points["hardware"].dropna().unique()
    if len(places) > 1:
        raise ValueError(f"latencies of different hardware cannot share a plot: {', '.join(map(str, places))}")
    figure = frame(x_title, y_title, dark=dark, height=460)
    known = points[np.isfinite(points["cost"]) & np.isfinite(points["quality"])].reset_index(drop=True)
    on = front(known["cost"], known["quality"])
    _steps(figure, known[on], dark)
    known["side"] = _sides(known, on)
    for method, rows in known.groupby("method", sort=False):
        look = palette.teacher(dark) if method == "teacher" else palette.style(str(method), dark)
        for lit in (True, False):
            part = rows[on[rows.index] == lit]
            if len(part):
                _points(figure, part, look, lit, legend=lit or not on[rows.index].any())
    if len(known) and known["cost"].min() > 0 and known["cost"].max() / known["cost"].min() > 10:
        figure.update_xaxes(type="log", dtick="D2")
    if teacher_lines:
        _guides(figure, known, dark)
    figure.add_annotation(
        x=0.99,
        y=0.02,
        xref="paper",
        yref="paper",
        text="↖ up and left is better",
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
        font={"color": QUIET[dark]},
    )
    return figure


def _sides(known: pd.DataFrame, lit: NDArray[np.bool_]) -> list[str]:
    """Where each label stands: inwards, so that none leaves the plot, and under its point where one stands above."""
    cost, quality = known["cost"].to_numpy(float), known["quality"].to_numpy(float)
    wide, high = (max(float(np.ptp(values)), 1e-9) if len(values) else 1.0 for values in (cost, quality))
    sides = [""] * len(known)
    for at in np.lexsort((cost, -quality)):
        near = (np.abs(cost - cost[at]) < 0.25 * wide) & (np.abs(quality - quality[at]) < 0.08 * high)
        above = any(lit[one] and sides[one].startswith("top") for one in np.flatnonzero(near) if one != at)
        inwards = "right" if cost[at] - cost.min() <= wide / 2 else "left"
        sides[at] = f"{'bottom' if above else 'top'} {inwards}"
    return sides


def _points(figure: go.Figure, rows: pd.DataFrame, look: palette.Style, lit: bool, legend: bool) -> None:
    figure.add_trace(
        go.Scatter(
            x=rows["cost"],
            y=rows["quality"],
            mode="markers+text" if lit else "markers",
            text=[plain(label) for label in rows["label"]],
            textposition=list(rows["side"]),
            cliponaxis=False,
            textfont={"size": 11},
            name=look.label,
            legendgroup=look.key,
            showlegend=legend,
            opacity=1.0 if lit else 0.35,
            marker={"symbol": look.marker, "color": look.color, "size": 15 if look.key == "teacher" else 11},
            error_x={"type": "data", "array": rows["cost_spread"], "thickness": 1, "width": 3},
            error_y={"type": "data", "array": rows["quality_spread"], "thickness": 1, "width": 3},
            customdata=rows[["n", "key"]].to_numpy(),
            hovertext=[plain(label) for label in rows["label"]],
            hovertemplate="<b>%{hovertext}</b><br>%{x:.3g} · %{y:.1f}<br>N=%{customdata[0]}<extra></extra>",
        )
    )


def _steps(figure: go.Figure, best: pd.DataFrame, dark: bool) -> None:
    line = best.sort_values(["cost", "quality"])
    figure.add_trace(
        go.Scatter(
            x=line["cost"],
            y=line["quality"],
            mode="lines",
            line={"shape": "hv", "color": QUIET[dark], "width": 1.5, "dash": "dot"},
            name="best for its cost",
            hoverinfo="skip",
        )
    )


def _guides(figure: go.Figure, known: pd.DataFrame, dark: bool) -> None:
    teachers = known[known["method"] == "teacher"]
    if teachers.empty:
        return
    top = float(teachers["quality"].max())
    for share, place in ((0.97, "bottom left"), (0.99, "top left")):
        figure.add_hline(
            y=share * top,
            line={"color": QUIET[dark], "width": 1, "dash": "dot"},
            annotation={"text": f"{share:.0%} of the best teacher", "font": {"color": QUIET[dark], "size": 11}},
            annotation_position=place,
        )
