"""Where the labels of points stand, so that they cover no mark, none of the plot's other words, and not one another.

A label beside its point moves with it where a plot is larger, one at the end of a line stays so many pixels away. So
each must be free on a phone's plot and on a desk's alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdcore.analysis.pareto import Floats

Box = tuple[float, float, float, float]
"""Left, lower, right and upper edge, in pixels from the lower left corner."""

PLOTS = ((300.0, 500.0), (850.0, 370.0))
"""Width and height in pixels of what the axes enclose, on a phone and on a desk."""
_LETTER, _LINE = 6.2, 14.0
"""Pixels of a letter and of a line of a label."""
_BOLD = 1.25
"""How much larger the label of the answer is."""
_LONGEST = 32
"""Letters, after which a label goes on in a second line."""
_SIDES = (
    "top right", "top left", "bottom right", "bottom left", "top center", "bottom center", "middle right",
    "middle left",
)  # fmt: skip
_HEADROOM = 0.18
"""Share of the qualities' span that the axis goes on above them, for labels of the best points."""
_SAME = 5.0
"""Marks so near each other are one to the eye: the label of one may touch the other."""
_AROUND = [
    (distance * math.cos(math.radians(angle)), distance * math.sin(math.radians(angle)))
    for distance in (34.0, 52.0, 70.0, 90.0, 120.0, 150.0, 180.0)
    for angle in range(0, 360, 15)
]
"""Pixels right and down of a point, the nearest first."""


@dataclass(frozen=True)
class Plane:
    """What the axes span: costs from `left` to `right`, qualities from `low` to `high`, room for labels included."""

    left: float
    right: float
    low: float
    high: float
    log: bool
    width: float
    height: float

    @classmethod
    def around(
        cls, known: pd.DataFrame, levels: Sequence[float], log: bool, size: tuple[float, float] = PLOTS[0]
    ) -> Plane:
        """The plane of these points with their whiskers, and of lines at these qualities."""
        low = [*(known["quality"] - known["quality_spread"]), *levels]
        high = [*(known["quality"] + known["quality_spread"]), *levels]
        top = max(high) + _HEADROOM * (max(high) - min(low))
        return cls(float(known["cost"].min()), float(known["cost"].max()), float(min(low)), float(top), log, *size)

    def x(self, cost: Floats) -> Floats:
        ends = (self.left, self.right)
        if self.log:
            return _pixels(np.log(cost), np.log(ends), self.width)
        return _pixels(cost, np.array(ends), self.width)

    def y(self, quality: Floats) -> Floats:
        return _pixels(quality, np.array((self.low, self.high)), self.height)

    def points(self, known: pd.DataFrame) -> tuple[Floats, Floats]:
        """x and y of each point."""
        return self.x(known["cost"].to_numpy(np.float64)), self.y(known["quality"].to_numpy(np.float64))

    def words_at(self, level: float, text: str, position: str) -> Box:
        """The words of a line at a quality. position: as plotly has it, `top left`."""
        vertical, horizontal = position.split()
        y, width = float(self.y(np.array([level]))[0]), _LETTER * len(text)
        left = 0.0 if horizontal == "left" else self.width - width
        low = y if vertical == "top" else y - _LINE - 4
        return left, low, left + width, low + _LINE + 4


def clear_side(known: pd.DataFrame, level: float, plane: Plane, sides: Sequence[str]) -> str:
    """On which side of a level line its words cover fewest points and their labels."""
    x, y = plane.points(known)
    above = y - plane.y(np.array([level]))[0]

    def crowd(side: str) -> int:
        vertical, horizontal = side.split()
        near = x < 0.3 * plane.width if horizontal == "left" else x > 0.7 * plane.width
        return int((near & ((above > -12) & (above < 34) if vertical == "top" else (above > -34) & (above < 12))).sum())

    return min(sides, key=crowd)


def place_labels(known: pd.DataFrame, planes: Sequence[Plane], words: Sequence[Sequence[Box]]) -> pd.DataFrame:
    """text and side of the labels, lines ended by a line feed: where one covers nothing, else none.

    A student's label that has no room beside its point gets `away`, pixels (right, down) to where a thin line leads;
    teachers outside the bounds and beaten rivals have a label where there is room.

    Args:
        known: points with their `look`. planes: on each of which a label must be free. words: of each plane, that stand
            there already.
    """
    if known.empty:
        return known.assign(text="", side="", away=None, full="")
    text = [lines_of(label) for label in short(known)]
    layers = [_Layer(plane, known, of_plane) for plane, of_plane in zip(planes, words, strict=True)]
    labels, sides = [""] * len(known), ["top center"] * len(known)
    away: list[tuple[float, float] | None] = [None] * len(known)
    for index in _in_turn(known):
        extent = _extent(text[index], known["look"].iloc[index] == "chosen")
        side = next((side for side in _SIDES if _all_free(layers, index, extent, side)), None)
        if side is not None:
            labels[index], sides[index] = text[index], side
        elif known["kind"].iloc[index] == "student":
            away[index] = next((place for place in _AROUND if _all_free(layers, index, extent, place)), None)
    return known.assign(text=labels, side=sides, away=pd.Series(away, known.index, dtype=object), full=text)


def short(known: pd.DataFrame) -> list[str]:
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


def lines_of(label: str) -> str:
    """A long label on several lines, broken behind commas.

    >>> lines_of("Fine-tuning alone, 2 x 64, init teacher, init_layers skip")
    'Fine-tuning alone, 2 x 64,\\ninit teacher, init_layers skip'
    """
    lines = [""]
    for part in label.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if len(longer) > _LONGEST and lines[-1]:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _in_turn(known: pd.DataFrame) -> list[int]:
    """Rows that may have a label, those of which it matters most first."""
    looks = ("chosen", "lit", "faint", "below")
    order = np.lexsort((known["cost"], -known["quality"], known["look"].map(looks.index)))
    named = known["kind"].isin(("student", "teacher")) | (known["look"] == "lit")
    return [int(index) for index in order if named.iloc[index]]


def _extent(text: str, bold: bool) -> tuple[float, float]:
    """Width and height of a label."""
    lines, scale = text.split("\n"), _BOLD if bold else 1.0
    return scale * _LETTER * max(map(len, lines)), scale * _LINE * len(lines)


class _Layer:
    """What of one plane is taken: marks, words, and the labels so far."""

    def __init__(self, plane: Plane, known: pd.DataFrame, words: Sequence[Box]) -> None:
        self.plane = plane
        self.x, self.y = plane.points(known)
        self.marks = [(x - 7, y - 7, x + 7, y + 7) for x, y in zip(self.x, self.y, strict=True)]
        self.taken = [*words]

    def box(self, index: int, extent: tuple[float, float], place: str | tuple[float, float]) -> Box:
        """Of a point's label on a side of it, or so many pixels right and down of it."""
        x, y = float(self.x[index]), float(self.y[index])
        if isinstance(place, str):
            return _box(x, y, place, *extent)
        return _box(x + place[0], y - place[1], "middle center", extent[0], extent[1] + 2)

    def free(self, index: int, box: Box) -> bool:
        """Whether a point's label is inside the plot and covers nothing."""
        inside = box[0] >= -10 and box[2] <= self.plane.width + 10 and box[1] >= -4 and box[3] <= self.plane.height + 4
        others = [mark for mark in self.marks if not _near(mark, self.marks[index])]
        return inside and not any(_overlap(box, other) for other in itertools.chain(others, self.taken))


def _all_free(
    layers: Sequence[_Layer], index: int, extent: tuple[float, float], place: str | tuple[float, float]
) -> bool:
    """Whether a place for a label is free on every plane; if it is, it is taken."""
    boxes = [layer.box(index, extent, place) for layer in layers]
    free = all(layer.free(index, box) for layer, box in zip(layers, boxes, strict=True))
    if free:
        for layer, box in zip(layers, boxes, strict=True):
            layer.taken.append(box)
    return free


def _pixels(values: Floats, ends: Floats, extent: float) -> Floats:
    """Values from 5 % to 95 % of an axis so long."""
    wide = float(ends[1] - ends[0]) or 1.0
    result: Floats = extent * (0.05 + 0.9 * (values - ends[0]) / wide)
    return result


def _box(x: float, y: float, side: str, wide: float, high: float) -> Box:
    """The edges of a label beside a point."""
    gap = 8.0
    vertical, horizontal = side.split()
    low = {"top": y + gap, "middle": y - high / 2, "bottom": y - gap - high}[vertical]
    beside = gap if vertical == "middle" and horizontal != "center" else 0.0
    left = {"right": x + beside, "left": x - wide - beside, "center": x - wide / 2}[horizontal]
    return left, low, left + wide, low + high


def _near(mark: Box, other: Box) -> bool:
    return max(abs(mark[0] - other[0]), abs(mark[1] - other[1])) < _SAME


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
