"""Quality against cost, with the line of what nobody beats and how far seeds move it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdcore.analysis.pareto import Better
from kdcore.figures import palette, point_labels
from kdcore.figures.point_labels import Plane
from kdcore.figures.template import INK, QUIET, frame, plain

LOOKS = ("chosen", "lit", "faint", "below")
"""The answer, what nobody beats, what is beaten, and what is outside the bounds."""

FAINT = (0.35, 0.5)
"""Opacity of beaten points on a light and on a dark page."""

RIVALS = {
    "bf16": ("star-diamond", "Teacher, bf16 weights"),
    "int8": ("star-square", "Teacher, int8"),
    "cut": ("star-triangle-down", "Teacher, cut"),
}
"""Kind of undistilled rival -> marker, name in the legend. All in the teacher's colour."""

CORNERS: dict[Better, str] = {"less": "↖ up and left is better", "more": "up and right is better ↗"}
"""Where the good points are, said in the corner where none are."""


@dataclass(frozen=True)
class Line:
    """A level line with its words. position: of the words, as plotly has it."""

    level: float
    text: str
    position: str
    dash: str


def scatter(
    table: pd.DataFrame,
    x_title: str,
    y_title: str,
    *,
    edges: pd.DataFrame | None = None,
    better: Better = "less",
    least: float | None = None,
    bound: float | None = None,
    guess: float | None = None,
    chosen: str = "",
    si: bool = False,
    dark: bool = False,
) -> go.Figure:
    """Points by method, the front as steps with its band, beaten points faint, teachers and rivals as stars.

    Points taken on a busy machine are hollow. Lines stand at `least` and `bound`, and what is outside them is grey;
    without `least`, thin lines stand at 97 % and 99 % of the best teacher. A dotted one stands at a blind `guess`.

    Args:
        table: see `points`; all of one condition. edges: see `band`. least, bound: quality and cost asked for, in the
            axes' units. chosen: label of the point that is drawn larger than all others, with a ring.
        si: numbers as 1k, 1M.

    Raises:
        ValueError: points measured under different conditions, which cannot stand on one axis.
    """
    conditions = table["condition"].dropna().unique()
    if len(conditions) > 1:
        raise ValueError(f"costs of different conditions cannot share a plot: {'; '.join(map(str, conditions))}")
    figure = frame(x_title, y_title, dark=dark, height=480)
    known = table[np.isfinite(table["cost"]) & np.isfinite(table["quality"])].reset_index(drop=True)
    if edges is not None:
        _band(figure, edges, better, dark)
    _steps(figure, known, better, dark)
    known["look"] = _looks(known, least, bound, better, chosen)
    log = len(known) > 0 and known["cost"].min() > 0 and known["cost"].max() / known["cost"].min() > 10
    lines = _lines(known, least, guess, better, log)
    known = _place_labels(figure, known, lines, better, log)
    _ring(figure, known[known["look"] == "chosen"], dark)
    for (kind, method), rows in known.groupby(["kind", "method"], sort=False):
        style = _style(str(kind), str(method), dark)
        shown = next(look for look in LOOKS if (rows["look"] == look).any())
        for look in LOOKS:
            part = rows[rows["look"] == look]
            if len(part):
                number = "%{x:.3s}" if si else "%{x:.3g}"
                _points(figure, part, style, look, legend=look == shown, number=number, dark=dark)
    if log:
        figure.update_xaxes(type="log", dtick="D2")
    if si:
        figure.update_xaxes(tickformat="~s")
    _level_lines(figure, lines, dark)
    if bound is not None:
        figure.add_vline(x=bound, line={"color": QUIET[dark], "width": 1})
    _leaders(figure, known, log, dark)
    _corner(figure, better, dark)
    return figure


def _looks(known: pd.DataFrame, least: float | None, bound: float | None, better: Better, chosen: str) -> list[str]:
    """How each point is drawn: one of `LOOKS`."""
    cost = known["cost"] if better == "less" else -known["cost"]
    limit = np.inf if bound is None else bound if better == "less" else -bound
    inside = (known["quality"] >= (-np.inf if least is None else least)) & (cost <= limit)
    looks = np.where(~inside, "below", np.where(known["on_front"], "lit", "faint"))
    return [str(look) for look in np.where((known["label"] == chosen) & (known["kind"] == "student"), "chosen", looks)]


def _ring(figure: go.Figure, rows: pd.DataFrame, dark: bool) -> None:
    """A ring around the chosen point, under it."""
    if len(rows):
        ring = {"symbol": "circle-open", "size": 30, "color": INK[dark], "line": {"width": 2.5, "color": INK[dark]}}
        figure.add_trace(
            go.Scatter(
                x=rows["cost"], y=rows["quality"], mode="markers", marker=ring, name="the answer", hoverinfo="skip",
            )
        )  # fmt: skip


def _style(kind: str, method: str, dark: bool) -> palette.Style:
    if kind == "student":
        return palette.style(method, dark)
    neutral = palette.teacher(dark)
    if kind not in RIVALS:
        return neutral
    marker, label = RIVALS[kind]
    return palette.Style(f"rival-{kind}", label, neutral.family, neutral.color, neutral.dash, marker, neutral.width)


def _place_labels(
    figure: go.Figure, known: pd.DataFrame, lines: Sequence[Line], better: Better, log: bool
) -> pd.DataFrame:
    """The points with their labels, see `point_labels.place_labels`; the axis goes on as far as labels need."""
    if known.empty:
        return known.assign(text="", side="", away=None, full="")
    planes = [Plane.around(known, [line.level for line in lines], log, size) for size in point_labels.PLOTS]
    corner = Line(planes[0].low, CORNERS[better], "bottom right" if better == "less" else "bottom left", "")
    words = [[plane.words_at(line.level, line.text, line.position) for line in (*lines, corner)] for plane in planes]
    figure.update_yaxes(autorangeoptions={"include": [planes[0].high]})
    return point_labels.place_labels(known, planes, words)


def _leaders(figure: go.Figure, known: pd.DataFrame, log: bool, dark: bool) -> None:
    """The labels that stand away from their points, each with a thin line to it."""
    for _, row in known.iterrows():
        if row["away"] is not None:
            figure.add_annotation(
                x=math.log10(row["cost"]) if log else row["cost"], y=row["quality"], text=_lines_of(row["full"]),
                ax=row["away"][0], ay=row["away"][1], showarrow=True, arrowhead=0, arrowwidth=1,
                arrowcolor=QUIET[dark], standoff=6, font={"size": 11, "color": _ink(row["look"], dark)},
            )  # fmt: skip


def _lines_of(label: str) -> str:
    return plain(label).replace("\n", "<br>")


def _ink(look: str, dark: bool) -> str:
    return INK[dark] if look in ("chosen", "lit") else QUIET[dark]


def _points(
    figure: go.Figure, rows: pd.DataFrame, style: palette.Style, look: str, *, legend: bool, number: str, dark: bool
) -> None:
    color = QUIET[dark] if look == "below" else style.color
    opacity = 1.0 if look in ("chosen", "lit") else FAINT[dark]
    hollow = {True: "-open", False: ""}
    size = 15 if style.family == palette.TEACHER.family else 11
    figure.add_trace(
        go.Scatter(
            x=rows["cost"],
            y=rows["quality"],
            mode="markers+text" if rows["text"].any() else "markers",
            text=[
                f"<b>{_lines_of(text)}</b>" if text and look == "chosen" else _lines_of(text) for text in rows["text"]
            ],
            textposition=list(rows["side"]),
            cliponaxis=False,
            textfont={"size": 13 if look == "chosen" else 11, "color": _ink(look, dark)},
            name=style.label,
            legendgroup=style.key,
            showlegend=legend,
            marker={
                "symbol": [f"{style.marker}{hollow[bool(busy) and look != 'chosen']}" for busy in rows["busy"]],
                "color": color,
                "opacity": opacity,
                "size": 18 if look == "chosen" else size,
                "line": {"width": 1.5, "color": color},
            },
            error_x=_whiskers(rows["cost_spread"], palette.with_opacity(color, opacity)),
            error_y=_whiskers(rows["quality_spread"], palette.with_opacity(color, opacity)),
            customdata=np.stack(
                [rows["n"], rows["key"], [f"{share:.0%}" for share in rows["share"]], _busy_notes(rows)], axis=1
            ).astype(object),
            hovertext=[plain(label) for label in rows["label"]],
            hovertemplate=f"<b>%{{hovertext}}</b><br>{number} · %{{y:.1f}}<br>N=%{{customdata[0]}} · on the front in "
            "%{customdata[2]} of resamples%{customdata[3]}<extra></extra>",
        )
    )


def _whiskers(spread: pd.Series, color: str) -> dict[str, object]:
    """A spread of 0 has no whisker: its caps would be a cross in the point."""
    return {"type": "data", "array": spread.where(spread > 0), "color": color, "thickness": 1, "width": 3}


def _busy_notes(rows: pd.DataFrame) -> list[str]:
    return ["<br>taken on a busy machine" if busy else "" for busy in rows["busy"]]


def _steps(figure: go.Figure, known: pd.DataFrame, better: Better, dark: bool) -> None:
    """The front, drawn on to the dearest point: what costs more than the best still is no better."""
    line = known[known["on_front"]].sort_values(["cost", "quality"], ascending=[True, better == "less"])
    x, y = list(line["cost"]), list(line["quality"])
    dearest = known["cost"].max() if better == "less" else known["cost"].min()
    if x and better == "less" and dearest > x[-1]:
        x, y = [*x, dearest], [*y, y[-1]]
    elif x and better == "more" and dearest < x[0]:
        x, y = [dearest, *x], [y[0], *y]
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"shape": "hv" if better == "less" else "vh", "color": QUIET[dark], "width": 1.5, "dash": "dot"},
            name="best for its cost",
            hoverinfo="skip",
        )
    )


def _band(figure: go.Figure, edges: pd.DataFrame, better: Better, dark: bool) -> None:
    """The band's lower edge without a line, and its upper edge filled down to it."""
    shape = "hv" if better == "less" else "vh"
    for edge, fill in (("low", None), ("high", "tonexty")) if len(edges) else ():
        figure.add_trace(
            go.Scatter(
                x=edges["cost"],
                y=edges[edge],
                mode="lines",
                line={"shape": shape, "width": 0},
                fill=fill,
                fillcolor=palette.with_opacity(QUIET[dark], 0.16),
                name="the same, other draws of seeds",
                showlegend=fill is not None,
                hoverinfo="skip",
            )
        )


def _lines(known: pd.DataFrame, least: float | None, guess: float | None, better: Better, log: bool) -> list[Line]:
    """The lines at a quality: what is asked for, or 97 % and 99 % of the best teacher, and a blind guess."""
    top = known.loc[known["kind"] == "teacher", "quality"].max()
    shares = [] if not top > 0 else [0.97, 0.99] if least is None else [least / top]
    levels = [share * top for share in shares] + ([] if guess is None else [guess])
    if known.empty:
        return []
    plane = Plane.around(known, levels, log)
    lines = []
    for share in shares:
        text = f"{100 * share:.3g}% of the best teacher"
        fixed = {0.97: "bottom left", 0.99: "top left"}.get(share) if least is None else None
        sides = ("bottom left", "top left", "bottom right", "top right") if fixed is None else (fixed,)
        side = point_labels.clear_side(known, share * top, plane, sides)
        lines.append(Line(share * top, text, side, "dot" if least is None else "solid"))
    if guess is not None:  # its words stand across from those of the corner
        across = "left" if better == "less" else "right"
        side = point_labels.clear_side(known, guess, plane, (f"top {across}", f"bottom {across}"))
        lines.append(Line(guess, "blind guess", side, "dot"))
    return lines


def _level_lines(figure: go.Figure, lines: Sequence[Line], dark: bool) -> None:
    for line in lines:
        color = palette.FAMILIES["none"][dark] if line.text == "blind guess" else QUIET[dark]
        figure.add_hline(
            y=line.level, line={"color": color, "width": 1, "dash": line.dash}, annotation_position=line.position,
            annotation={"text": line.text, "font": {"color": color, "size": 11}},
        )  # fmt: skip


def _corner(figure: go.Figure, better: Better, dark: bool) -> None:
    figure.add_annotation(
        x=0.99 if better == "less" else 0.01,
        y=0.02,
        xref="paper",
        yref="paper",
        text=CORNERS[better],
        showarrow=False,
        xanchor="right" if better == "less" else "left",
        yanchor="bottom",
        font={"color": QUIET[dark]},
    )
