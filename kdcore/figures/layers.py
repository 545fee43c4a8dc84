"""Teacher layer by student layer: how far apart the hidden states are, and which pairs a method matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from kdcore.figures import palette
from kdcore.figures.template import INK, PAGE, QUIET, frame, outline, plain
from kdcore.layer_map import pairs

MEASURES: dict[str, tuple[str, str]] = {
    "cka": ("Linear CKA (0 to 1)", "1: the same up to rotation and scale, 0: unrelated"),
    "cls": ("Linear CKA of [CLS] states (0 to 1)", "1: the same up to rotation and scale, 0: unrelated"),
    "cosine": ("Cosine distance (0 to 2)", "1 - cos of the states; 0: the same direction"),
    "mse": ("Squared distance (in variances)", "over the teacher's variance; 0: the same, 1: no better than its mean"),
    "js": ("Jensen-Shannon divergence (nats)", "of the maps' means over heads; 0: the same, ln 2 = 0.69: disjoint"),
}
"""Measure -> title with its range, and how to read it."""

SHARE = "share"
"""A measure that counts: the larger, the more two layers have to do with one another."""

SIMILARITIES = ("cka", "cls")
"""Measures of which more is nearer, with 1 for the same."""

MATCHED: dict[str, object] = {"color": "#E11D48", "width": 3}
"""The frame of a pair that the method matches."""

_HALF = 0.13
"""Half the width of a layer's box in `map_figure`, where student and teacher stand 1 apart."""


def matrix(
    values: ArrayLike,
    measure: str,
    layer_map: Mapping[int, Sequence[int]] | None = None,
    dark: bool = False,
    *,
    first: int = 0,
    top: float | None = None,
    title: str = "",
) -> go.Figure:
    """One measure as a heat map, student layers from bottom up, teacher layers from left to right, 0 = embeddings.

    Args:
        values: [teacher layers, student layers], both from layer `first`. layer_map: student layer -> teacher layers,
            outlined. top: end of the colour scale where it is shared; else the largest value. title: in place of the
            measure's.
    """
    z = np.asarray(values, dtype=np.float64).T
    title = title or MEASURES.get(measure, (measure, ""))[0]
    students, teachers = z.shape
    note = " (0 = embeddings)" if first == 0 else ""
    figure = frame(
        f"Teacher layer{note}", f"Student layer{note}", dark=dark, height=120 + 44 * max(4, students), title=title
    )
    figure.add_trace(
        go.Heatmap(
            z=z,
            x=list(range(first, first + teachers)),
            y=list(range(first, first + students)),
            xgap=2,
            ygap=2,
            colorscale=_scale(measure),
            zmin=0.0,
            zmax=shared_top(measure, z) if top is None else top,
            text=[[_number(value) for value in row] for row in z],
            texttemplate="%{text}" if z.size <= 200 else None,
            hovertemplate="student layer %{y}, teacher layer %{x}<br>%{z:.3f}<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0, "tickfont": {"color": INK[dark]}},
        )
    )
    for line in ({"color": PAGE[dark], "width": 8}, MATCHED):  # a rim keeps the frame apart from cells of any colour
        for student, teacher in pairs(layer_map or {}):
            outline(figure, student, teacher, line)
    figure.update_xaxes(dtick=1, showgrid=False)
    figure.update_yaxes(dtick=1, showgrid=False)
    return figure


def read_out(name: str, values: ArrayLike, dark: bool = False) -> go.Figure:
    """What a method read out for each pair of layers, such as how much of the transport goes from one to the other.

    Args:
        name: of the read-out. values: [student layers, teacher layers], both from layer 1, none negative.
    """
    title = plain(name.replace("_", " ")).capitalize()
    return matrix(np.asarray(values, dtype=np.float64).T, SHARE, dark=dark, first=1, title=title)


def shared_top(measure: str, *values: ArrayLike) -> float:
    """End of a colour scale that holds for all of these matrices."""
    if measure in SIMILARITIES:
        return 1.0
    return max([1e-9, *(float(np.nanmax(np.asarray(matrix_, dtype=np.float64), initial=0.0)) for matrix_ in values)])


def nearest(values: ArrayLike, measure: str) -> list[tuple[int, int, float]]:
    """For each student layer: the teacher layer most alike and the value there. values: [teacher + 1, student + 1]."""
    z = np.asarray(values, dtype=np.float64)
    out = []
    for student in range(z.shape[1]):
        column = z[:, student]
        if not np.isfinite(column).any():
            continue
        best = int(np.nanargmax(column) if measure in SIMILARITIES else np.nanargmin(column))
        out.append((student, best, float(column[best])))
    return out


def describe_map(layer_map: Mapping[int, Sequence[int]], matched: Sequence[str] = ()) -> str:
    """The layer map as a sentence; `1–3` stands for layers 1 to 3, where a layer learns from several."""
    if not layer_map:
        return "This method matches no layers: it reads the teacher's answers alone."
    texts = {student: _range(several) for student, several in sorted(layer_map.items())}
    if len(texts) > 1 and len(set(texts.values())) == 1:
        listed = f"{_range(list(texts))} ← {next(iter(texts.values()))}"
    else:
        listed = ", ".join(f"{student} ← {text}" for student, text in texts.items())
    what = f" ({', '.join(matched)})" if matched else ""
    return f"Student layer ← teacher layer{what}: {listed}."


def _range(layers: Sequence[int]) -> str:
    """`3`, `1–3`, or `1 + 3` where they do not follow one another."""
    if len(layers) > 1 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}–{layers[-1]}"
    return " + ".join(map(str, layers))


def map_figure(
    student_layers: int, teacher_layers: int, layer_map: Mapping[int, Sequence[int]], dark: bool = False
) -> go.Figure:
    """The layer map as a picture: both stacks of layers from the embeddings (0) up, a line for each matched pair.

    The student stands left, the teacher right, both equally high, so that an evenly spread map has level lines.
    Matched layers have a thick edge and a bold number: it can be read without colours. `describe_map` says the same.

    Args:
        student_layers, teacher_layers: depths. layer_map: student layer -> teacher layers.
    """
    depth = max(student_layers, teacher_layers)
    room = max(15, min(26, 340 // depth))  # pixels a layer
    color = palette.term_color(1, dark)
    figure = frame("", "", dark=dark, height=(depth + 3) * room)
    lines = sorted(pairs(layer_map))
    many = len(lines) > len(layer_map)
    for ours, theirs in lines:
        ends = {"x": [_HALF, 1 - _HALF], "y": [ours / student_layers, theirs / teacher_layers]}
        figure.add_trace(
            go.Scatter(**ends, mode="lines", line={"color": color, "width": 1 if many else 2}, hoverinfo="skip")
        )
    for x, name, layers, matched in (
        (0, "Student", student_layers, layer_map.keys()),
        (1, "Teacher", teacher_layers, {theirs for _, theirs in lines}),
    ):
        for number in range(layers + 1):
            edge = {"color": color, "width": 2.5} if number in matched else {"color": QUIET[dark], "width": 1}
            low, high = (number / layers + side * 0.39 / depth for side in (-1, 1))
            figure.add_shape(type="rect", x0=x - _HALF, x1=x + _HALF, y0=low, y1=high, line=edge)
        figure.add_trace(_numbers(x, name, layers, set(matched), 11 if room > 16 else 10, dark))
        figure.add_annotation(
            x=x, y=1, yshift=max(room, 19), text=name, showarrow=False, font={"color": INK[dark], "size": 13}
        )
    figure.update_layout(showlegend=False, margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure.update_xaxes(visible=False, fixedrange=True, range=[-0.3, 1.3])
    figure.update_yaxes(visible=False, fixedrange=True, range=[-0.8 / depth, 1 + 1.8 / depth])
    return figure


def _numbers(x: int, name: str, layers: int, matched: set[int], size: int, dark: bool) -> go.Scatter:
    """The numbers of one model's layers."""
    numbers = range(layers + 1)
    return go.Scatter(
        name=name,
        x=[x] * len(numbers),
        y=[number / layers for number in numbers],
        mode="text",
        text=[f"<b>{number}</b>" if number in matched else str(number) for number in numbers],
        textfont={"color": [(INK if number in matched else QUIET)[dark] for number in numbers], "size": size},
        hoverinfo="skip",
    )


def _scale(measure: str) -> str:
    return palette.SEQUENTIAL if measure in (*SIMILARITIES, SHARE) else f"{palette.SEQUENTIAL}_r"


def _number(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:.2f}"
