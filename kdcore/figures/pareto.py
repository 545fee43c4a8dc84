"""Quality against cost, with the line of what nobody beats and how far seeds move it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdcore.analysis.pareto import Better, Floats
from kdcore.figures import palette
from kdcore.figures.template import INK, QUIET, frame, plain

LOOKS = ("chosen", "lit", "faint", "below")
"""The answer, what nobody beats, what is beaten, and what is outside the bounds."""

Box = tuple[float, float, float, float]
"""Left, lower, right and upper edge, in pixels from the lower left corner."""

FAINT = (0.35, 0.5)
"""Opacity of beaten points on a light and on a dark page."""

_WIDTH, _HEIGHT = 320.0, 380.0
_SIDES = (
    "top right", "top left", "bottom right", "bottom left", "top center", "bottom center", "middle right",
    "middle left",
)  # fmt: skip

RIVALS = {
    "bf16": ("star-diamond", "Teacher, bf16 weights"),
    "int8": ("star-square", "Teacher, int8"),
    "cut": ("star-triangle-down", "Teacher, cut"),
}
"""Kind of undistilled rival -> marker, name in the legend. All in the teacher's colour."""


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
    known = _placed(known, log)
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
    _guides(figure, known, least, log, dark)
    _guess(figure, guess, dark)
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


def _placed(known: pd.DataFrame, log: bool) -> pd.DataFrame:
    """text and side of the labels: where one covers no point and no label, else none.

    A student's label that has no room beside its point gets `away`, pixels (right, down) to where a thin line leads;
    teachers outside the bounds and beaten rivals have a label where there is room. Judged on a plot of `_WIDTH` x
    `_HEIGHT` pixels, a phone's, so that what fits here fits everywhere.
    """
    if known.empty:
        return known.assign(text="", side="", away=None)
    cost = known["cost"].to_numpy(np.float64)
    x = _pixels(np.log(cost) if log else cost, _WIDTH)
    y = _pixels(known["quality"].to_numpy(np.float64), _HEIGHT)
    text = _short(known)
    taken = [(at_x - 7, at_y - 7, at_x + 7, at_y + 7) for at_x, at_y in zip(x, y, strict=True)]
    labels, sides = [""] * len(known), ["top center"] * len(known)
    away: list[tuple[float, float] | None] = [None] * len(known)
    student = known["kind"] == "student"
    named = student | (known["look"] == "lit") | (known["kind"] == "teacher")
    looks = known["look"].map(LOOKS.index)
    order = np.lexsort((cost, -known["quality"].to_numpy(np.float64), looks))
    for index in order[named.to_numpy()[order]]:
        at, width = (float(x[index]), float(y[index])), 6.2 * len(text[index])
        others = [other for number, other in enumerate(taken) if number != index]
        side = next((side for side in _SIDES if _free(_box(*at, side, width), others)), None)
        if side is not None:
            labels[index], sides[index] = text[index], side
            taken.append(_box(*at, side, width))
        elif student.iloc[index]:
            away[index], box = _lead(at, width, others)
            taken.append(box)
    return known.assign(text=labels, side=sides, away=pd.Series(away, known.index, dtype=object), full=text)


def _free(box: Box, others: Sequence[Box]) -> bool:
    """Whether a label is inside the plot and covers nothing."""
    return box[0] >= -10 and box[2] <= _WIDTH + 10 and not any(_overlap(box, other) for other in others)


def _lead(at: tuple[float, float], width: float, others: Sequence[Box]) -> tuple[tuple[float, float], Box]:
    """Where a label goes that has no room beside its point: the nearest free place around it, else the last tried.

    Returns:
        pixels right and down of the point, and the label's box.
    """
    for distance, angle in itertools.product((34.0, 52.0, 70.0, 90.0, 120.0), range(0, 360, 30)):
        right, down = distance * math.cos(math.radians(angle)), distance * math.sin(math.radians(angle))
        center = at[0] + right, at[1] - down
        box = center[0] - width / 2, center[1] - 8, center[0] + width / 2, center[1] + 8
        if _free(box, others) and box[1] >= 0 and box[3] <= _HEIGHT:
            break
    return (right, down), box


def _leaders(figure: go.Figure, known: pd.DataFrame, log: bool, dark: bool) -> None:
    """The labels that stand away from their points, each with a thin line to it."""
    for _, row in known.iterrows():
        if row["away"] is not None:
            figure.add_annotation(
                x=math.log10(row["cost"]) if log else row["cost"], y=row["quality"], text=plain(row["full"]),
                ax=row["away"][0], ay=row["away"][1], showarrow=True, arrowhead=0, arrowwidth=1,
                arrowcolor=QUIET[dark], standoff=6, font={"size": 11, "color": _ink(row["look"], dark)},
            )  # fmt: skip


def _ink(look: str, dark: bool) -> str:
    return INK[dark] if look in ("chosen", "lit") else QUIET[dark]


def _pixels(values: Floats, extent: float) -> Floats:
    """Values from 5 % to 95 % of an axis so long."""
    wide = float(np.ptp(values)) or 1.0
    result: Floats = extent * (0.05 + 0.9 * (values - values.min()) / wide)
    return result


def _box(x: float, y: float, side: str, width: float) -> Box:
    """Left, lower, right and upper edge of a label of one line beside a point."""
    height, gap = 14.0, 8.0
    vertical, horizontal = side.split()
    low = {"top": y + gap, "middle": y - height / 2, "bottom": y - gap - height}[vertical]
    beside = gap if vertical == "middle" else 0.0
    left = {"right": x + beside, "left": x - width - beside, "center": x - width / 2}[horizontal]
    return left, low, left + width, low + height


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _short(known: pd.DataFrame) -> list[str]:
    """The labels, without the student's size where all students have the same: "KD, 2 x 64" as "KD"."""
    students = known.loc[known["kind"] == "student", "label"]
    sizes = {label.rpartition(", ")[2] for label in students}
    if len(sizes) != 1 or not all(", " in label for label in students):
        return list(known["label"])
    same = f", {sizes.pop()}"
    return [
        label.removesuffix(same) if kind == "student" else label
        for label, kind in zip(known["label"], known["kind"], strict=True)
    ]


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
            text=[f"<b>{plain(text)}</b>" if text and look == "chosen" else plain(text) for text in rows["text"]],
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
            error_x=_whiskers(rows["cost_spread"], palette.faded(color, opacity)),
            error_y=_whiskers(rows["quality_spread"], palette.faded(color, opacity)),
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
                fillcolor=palette.faded(QUIET[dark], 0.16),
                name="the same, other draws of seeds",
                showlegend=fill is not None,
                hoverinfo="skip",
            )
        )


def _guides(figure: go.Figure, known: pd.DataFrame, least: float | None, log: bool, dark: bool) -> None:
    teachers = known[known["kind"] == "teacher"]
    if teachers.empty:
        return
    top = float(teachers["quality"].max())
    lines = (
        [(0.97, "bottom left"), (0.99, "top left")]
        if least is None
        else [(least / top, _clear_side(known, least, log))]
    )
    for share, position in lines:
        figure.add_hline(
            y=share * top,
            line={"color": QUIET[dark], "width": 1, "dash": "dot" if least is None else "solid"},
            annotation={"text": f"{100 * share:.3g}% of the best teacher", "font": {"color": QUIET[dark], "size": 11}},
            annotation_position=position,
        )


def _clear_side(known: pd.DataFrame, level: float, log: bool) -> str:
    """Where on a level line its words cover fewest points and their labels."""
    cost = known["cost"].to_numpy(np.float64)
    x = _pixels(np.log(cost) if log else cost, _WIDTH)
    y = _pixels(np.append(known["quality"].to_numpy(np.float64), level), _HEIGHT)
    above = y[:-1] - y[-1]

    def crowd(side: str) -> int:
        vertical, horizontal = side.split()
        near = x < 0.3 * _WIDTH if horizontal == "left" else x > 0.7 * _WIDTH
        return int((near & ((above > -12) & (above < 34) if vertical == "top" else (above > -34) & (above < 12))).sum())

    return min(("bottom left", "top left", "bottom right", "top right"), key=crowd)


def _guess(figure: go.Figure, guess: float | None, dark: bool) -> None:
    if guess is not None:
        color = palette.FAMILIES["none"][dark]
        figure.add_hline(
            y=guess, line={"color": color, "width": 1, "dash": "dot"}, annotation_position="bottom right",
            annotation={"text": "blind guess", "font": {"color": color, "size": 11}},
        )  # fmt: skip


def _corner(figure: go.Figure, better: Better, dark: bool) -> None:
    figure.add_annotation(
        x=0.99 if better == "less" else 0.01,
        y=0.02,
        xref="paper",
        yref="paper",
        text="↖ up and left is better" if better == "less" else "up and right is better ↗",
        showarrow=False,
        xanchor="right" if better == "less" else "left",
        yanchor="bottom",
        font={"color": QUIET[dark]},
    )
