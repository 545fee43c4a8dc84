"""What a method matches, as a picture: the stacks of teacher and student, and lines between what is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from kdcore.figures import palette
from kdcore.figures.template import INK, PAGE, QUIET, frame
from kdcore.layer_map import pairs
from kdcore.methods.docs import TENSOR_NAMES
from kdcore.records import ALL_LAYERS, Needs, Want

TOP, BOTTOM = -1, 0
"""Levels beside the layers 1, 2, ...: pooler and classifier above the last layer, the embeddings below the first."""

_LEVELS = {"logits": TOP, "pooled": TOP, "embeddings": BOTTOM}
_TEACHER, _STUDENT, _WIDTH = 0.0, 7.0, 3.0
_STEP = 1.0
_BLOCK = 0.72


@dataclass(frozen=True)
class Match:
    """Tensors that are compared. Levels: a layer, `BOTTOM` or `TOP`; kinds: names of `records.TENSORS`."""

    teacher: int
    student: int
    kinds: tuple[str, ...]


def matches(needs: Needs, layer_map: Mapping[int, Sequence[int]], student: int, teacher: int) -> list[Match]:
    """Which level of the student is compared with which of the teacher, from the top down.

    Tensors of one kind belong together. Where both sides read several layers, the layer map pairs them, then their
    order, where there are equally many, or the single layer on one side. A kind that only one side reads belongs to
    the one kind that only the other reads.

    Args:
        layer_map: student layer -> teacher layers. student, teacher: their depths.
    """
    guides = tuple(theirs for _, theirs in pairs(layer_map))
    kinds: dict[tuple[int, int], list[str]] = {}
    for ours, theirs in _pairs_of_kinds(needs):
        name = TENSOR_NAMES[ours] if ours == theirs else f"{TENSOR_NAMES[theirs]} → {TENSOR_NAMES[ours]}"
        mine = _levels(ours, needs.student, student, tuple(layer_map))
        its = _levels(theirs, needs.teacher, teacher, guides)
        for layer, teacher_layer in _level_pairs(mine, its, layer_map):
            kinds.setdefault((teacher_layer, layer), []).append(name)
    order = sorted(kinds, key=lambda pair: (_height(pair[0], teacher), _height(pair[1], student)), reverse=True)
    return [Match(*pair, tuple(kinds[pair])) for pair in order]


def picture(
    needs: Needs,
    layer_map: Mapping[int, Sequence[int]],
    student: int,
    teacher: int,
    *,
    family: str,
    names: tuple[str, str] = ("Teacher", "Student"),
    teachers: tuple[int, int] = (1, 1),
    dark: bool = False,
) -> go.Figure:
    """The two stacks, embeddings below and classifier above, with one line for each pair that is compared.

    Args:
        needs, layer_map: of one stage. student, teacher: their depths. family: the method's, for the colour.
        names: of the two stacks. teachers: fewest and most; some stand behind the first, dotted where optional.
    """
    color = palette.FAMILIES.get(family, palette.FAMILIES["none"])[dark]
    asked = bool(needs.teacher)
    compared = matches(needs, layer_map, student, teacher)
    levels = 2 + max(student, teacher)
    figure = frame("teacher and student", "layers from the embeddings up", dark=dark, height=96 + round(30 * levels))
    for number in range(min(teachers[1] - 1, 2) if asked else 0, 0, -1):
        _behind(figure, teacher, number, optional=number >= teachers[0], dark=dark)
    for side, name, depth, left, wanted in (
        ("teacher", names[0], teacher, _TEACHER, needs.teacher),
        ("student", names[1], student, _STUDENT, needs.student),
    ):
        touched = {getattr(pair, side) for pair in compared}
        touched |= {level for kind in wanted for level in _levels(kind, wanted, depth, ())}
        _stack(figure, depth, left, touched, color, dark, faint=not wanted)
        _title(figure, name, depth, left if side == "teacher" else left + _WIDTH, side == "teacher", dark)
    _lines(figure, compared, student, teacher, color, dark)
    if not asked:
        _note(figure, "no teacher is asked", (_TEACHER + _WIDTH + _STUDENT) / 2, _STEP, dark)
    elif teachers[1] > 1:
        _note(figure, _count(teachers), _TEACHER + _WIDTH / 2, -1.35 * _STEP, dark)
    figure.update_xaxes(visible=False, range=[-0.8, _STUDENT + _WIDTH + 0.2], fixedrange=True)
    lowest = -1.8 if asked and teachers[1] > 1 else -0.6
    figure.update_yaxes(visible=False, range=[lowest * _STEP, levels * _STEP + 0.5], fixedrange=True)
    figure.update_layout(showlegend=False, hovermode="closest", margin={"l": 0, "r": 0, "t": 8, "b": 0})
    return figure


def _pairs_of_kinds(needs: Needs) -> Iterator[tuple[str, str]]:
    """(student's kind, teacher's kind) of what is compared."""
    shared = [kind for kind in needs.student if kind in needs.teacher]
    yield from ((kind, kind) for kind in shared)
    ours = [kind for kind in needs.student if kind not in shared]
    theirs = [kind for kind in needs.teacher if kind not in shared]
    if len(ours) == len(theirs) == 1:
        yield ours[0], theirs[0]


def _levels(kind: str, wanted: Want, depth: int, mapped: tuple[int, ...]) -> tuple[int, ...]:
    """Where a kind is read. Needs that name no layers of a layered kind mean those of the map."""
    if kind in _LEVELS:
        return (_LEVELS[kind],)
    layers = wanted[kind]
    if layers == ALL_LAYERS:
        return tuple(range(1, depth + 1))
    return tuple(sorted(set(layers or mapped)))


def _level_pairs(
    mine: tuple[int, ...], its: tuple[int, ...], layer_map: Mapping[int, Sequence[int]]
) -> Iterator[tuple[int, int]]:
    """(student level, teacher level)."""
    mapped = [(at, on) for at, on in pairs(layer_map) if at in mine and on in its]
    yield from mapped
    rest = [at for at in mine if at not in {at for at, _ in mapped}]
    free = [on for on in its if on not in {on for _, on in mapped}]
    if len(rest) == len(free):
        yield from zip(rest, free, strict=True)
    elif len(rest) == 1 or len(free) == 1:
        yield from ((at, on) for at in rest for on in free)


def _height(level: int, depth: int) -> float:
    return _STEP * (depth + 1 if level == TOP else level)


def _behind(figure: go.Figure, depth: int, number: int, optional: bool, dark: bool) -> None:
    """The outline of another teacher."""
    shift = 0.28 * number
    figure.add_shape(
        type="rect", x0=_TEACHER - shift, x1=_TEACHER + _WIDTH - shift, y0=-_BLOCK / 2 - shift,
        y1=_height(TOP, depth) + _BLOCK / 2 - shift, fillcolor=PAGE[dark], layer="below",
        line={"color": QUIET[dark], "width": 1, "dash": "dot" if optional else "solid"},
    )  # fmt: skip


def _stack(figure: go.Figure, depth: int, left: float, touched: set[int], color: str, dark: bool, faint: bool) -> None:
    """Blocks from the embeddings up; those that are read are tinted."""
    quiet = QUIET[dark]
    for level in (BOTTOM, *range(1, depth + 1), TOP):
        y = _height(level, depth)
        read = level in touched
        figure.add_shape(
            type="rect", x0=left, x1=left + _WIDTH, y0=y - _BLOCK / 2, y1=y + _BLOCK / 2,
            opacity=0.45 if faint else 1.0,
            fillcolor=PAGE[dark], line={"color": color if read else quiet, "width": 2 if read else 1}, layer="below",
        )  # fmt: skip
        if read:
            figure.add_shape(
                type="rect", x0=left, x1=left + _WIDTH, y0=y - _BLOCK / 2, y1=y + _BLOCK / 2,
                fillcolor=palette.with_opacity(color, 0.16), line={"width": 0}, layer="below",
            )  # fmt: skip
        label = {TOP: "classifier", BOTTOM: "embeddings"}.get(level, f"layer {level}")
        ink = INK[dark] if read else quiet
        _note(figure, label, left + _WIDTH / 2, y, dark, color=ink, opacity=0.6 if faint else 1.0)


def _lines(figure: go.Figure, compared: list[Match], student: int, teacher: int, color: str, dark: bool) -> None:
    """One line a pair; what is compared is written once for pairs that compare the same."""
    labelled: set[tuple[str, ...]] = set()
    thin = len(compared) > student + 2
    for pair in compared:
        start, end = _height(pair.teacher, teacher), _height(pair.student, student)
        label = ", ".join(pair.kinds)
        xs, ys = [_TEACHER + _WIDTH, _STUDENT], [start, end]
        figure.add_trace(
            go.Scatter(
                x=xs,
                y=ys,
                mode="lines+markers",
                line={"color": color, "width": 1 if thin else 2.5},
                marker={
                    "color": color,
                    "size": [5, 8] if thin else [8, 12],
                    "symbol": ["circle", "triangle-right"],
                    "line": {"width": 0},
                },
                name=f"{label}: teacher {_level(pair.teacher)} to student {_level(pair.student)}",
                hovertemplate=f"{label}<br>teacher {_level(pair.teacher)} → student {_level(pair.student)}"
                "<extra></extra>",
            )
        )
        if pair.kinds not in labelled:
            labelled.add(pair.kinds)
            middle = (_TEACHER + _WIDTH + _STUDENT) / 2
            figure.add_annotation(
                x=middle, y=(start + end) / 2, text=label.replace(", ", "<br>") if len(label) > 22 else label,
                showarrow=False, font={"size": 12, "color": INK[dark]}, bgcolor=PAGE[dark], borderpad=2,
            )  # fmt: skip


def _level(level: int) -> str:
    return {TOP: "classifier", BOTTOM: "embeddings"}.get(level, f"layer {level}")


def _count(teachers: tuple[int, int]) -> str:
    fewest, most = teachers
    return f"{fewest} teachers" if fewest == most else f"{fewest} to {most} teachers"


def _title(figure: go.Figure, name: str, depth: int, x: float, left: bool, dark: bool) -> None:
    """Above a stack, flush with its outer edge."""
    figure.add_annotation(
        x=x, y=_height(TOP, depth) + _BLOCK / 2 + 0.55, xanchor="left" if left else "right", showarrow=False,
        text=f"<b>{name}</b> · {depth} layer{'s' if depth > 1 else ''}", font={"size": 13, "color": INK[dark]},
    )  # fmt: skip


def _note(figure: go.Figure, text: str, x: float, y: float, dark: bool, color: str = "", opacity: float = 1.0) -> None:
    figure.add_annotation(
        x=x, y=y, text=text, showarrow=False, opacity=opacity, font={"size": 12, "color": color or QUIET[dark]}
    )
