"""Where the labels of points stand, so that they cover no mark, none of the plot's other words, and not one another.

Judged on a plot of `WIDTH` x `HEIGHT` pixels, a phone's, so that what fits here fits everywhere: in a larger one points
lie further apart, and words are as large.
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

WIDTH, HEIGHT = 320.0, 300.0
_LETTER, _LINE = 6.2, 14.0
"""Pixels of a letter and of a line of a label."""
_BOLD = 1.25
"""How much larger the label of the answer is."""
_LONGEST = 30
"""Letters, after which a label goes on in a second line."""
_SIDES = (
    "top right", "top left", "bottom right", "bottom left", "top center", "bottom center", "middle right",
    "middle left",
)  # fmt: skip
_DISTANCES = (34.0, 52.0, 70.0, 90.0, 120.0, 150.0, 180.0)


@dataclass(frozen=True)
class Plane:
    """What the axes span: costs from `left` to `right`, qualities from `low` to `high`."""

    left: float
    right: float
    low: float
    high: float
    log: bool

    @classmethod
    def around(cls, known: pd.DataFrame, levels: Sequence[float], log: bool) -> Plane:
        """The plane of these points with their whiskers, and of lines at these qualities."""
        low = [*(known["quality"] - known["quality_spread"]), *levels]
        high = [*(known["quality"] + known["quality_spread"]), *levels]
        return cls(float(known["cost"].min()), float(known["cost"].max()), float(min(low)), float(max(high)), log)

    def x(self, cost: Floats) -> Floats:
        ends = (self.left, self.right)
        return _pixels(np.log(cost), np.log(ends), WIDTH) if self.log else _pixels(cost, np.array(ends), WIDTH)

    def y(self, quality: Floats) -> Floats:
        return _pixels(quality, np.array((self.low, self.high)), HEIGHT)

    def points(self, known: pd.DataFrame) -> tuple[Floats, Floats]:
        """x and y of each point."""
        return self.x(known["cost"].to_numpy(np.float64)), self.y(known["quality"].to_numpy(np.float64))

    def words_at(self, level: float, text: str, position: str) -> Box:
        """The words of a line at a quality. position: as plotly has it, `top left`."""
        vertical, horizontal = position.split()
        y, width = float(self.y(np.array([level]))[0]), _LETTER * len(text)
        left = 0.0 if horizontal == "left" else WIDTH - width
        low = y if vertical == "top" else y - _LINE - 4
        return left, low, left + width, low + _LINE + 4


def clear_side(known: pd.DataFrame, level: float, plane: Plane, sides: Sequence[str]) -> str:
    """On which side of a level line its words cover fewest points and their labels."""
    x, y = plane.points(known)
    above = y - plane.y(np.array([level]))[0]

    def crowd(side: str) -> int:
        vertical, horizontal = side.split()
        near = x < 0.3 * WIDTH if horizontal == "left" else x > 0.7 * WIDTH
        return int((near & ((above > -12) & (above < 34) if vertical == "top" else (above > -34) & (above < 12))).sum())

    return min(sides, key=crowd)


def placed(known: pd.DataFrame, plane: Plane, words: Sequence[Box]) -> pd.DataFrame:
    """text and side of the labels, lines ended by a line feed: where one covers nothing, else none.

    A student's label that has no room beside its point gets `away`, pixels (right, down) to where a thin line leads;
    teachers outside the bounds and beaten rivals have a label where there is room.

    Args:
        known: points with their `look`, the most visible of which come first. words: that stand in the plot already.
    """
    if known.empty:
        return known.assign(text="", side="", away=None, full="")
    x, y = plane.points(known)
    text = [lines_of(label) for label in short(known)]
    marks = [(at_x - 7, at_y - 7, at_x + 7, at_y + 7) for at_x, at_y in zip(x, y, strict=True)]
    taken = [*marks, *words]
    labels, sides = [""] * len(known), ["top center"] * len(known)
    away: list[tuple[float, float] | None] = [None] * len(known)
    for index in _in_turn(known):
        at, others = (float(x[index]), float(y[index])), [box for box in taken if box is not marks[index]]
        wide, high = _extent(text[index], known["look"].iloc[index] == "chosen")
        side = next((side for side in _SIDES if _free(_box(*at, side, wide, high), others)), None)
        if side is not None:
            labels[index], sides[index] = text[index], side
            taken.append(_box(*at, side, wide, high))
        elif known["kind"].iloc[index] == "student" and (led := _lead(at, wide, high, others)) is not None:
            away[index] = led[0]
            taken.append(led[1])
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


def _free(box: Box, others: Sequence[Box]) -> bool:
    """Whether a label is inside the plot and covers nothing."""
    return box[0] >= -10 and box[2] <= WIDTH + 10 and not any(_overlap(box, other) for other in others)


def _lead(
    at: tuple[float, float], wide: float, high: float, others: Sequence[Box]
) -> tuple[tuple[float, float], Box] | None:
    """Where a label goes that has no room beside its point: the nearest free place around it.

    Returns:
        pixels right and down of the point, and the label's box; None where no place is free.
    """
    for distance, angle in itertools.product(_DISTANCES, range(0, 360, 15)):
        right, down = distance * math.cos(math.radians(angle)), distance * math.sin(math.radians(angle))
        center = at[0] + right, at[1] - down
        box = center[0] - wide / 2, center[1] - high / 2 - 1, center[0] + wide / 2, center[1] + high / 2 + 1
        if _free(box, others) and box[1] >= 0 and box[3] <= HEIGHT:
            return (right, down), box
    return None


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
    beside = gap if vertical == "middle" else 0.0
    left = {"right": x + beside, "left": x - wide - beside, "center": x - wide / 2}[horizontal]
    return left, low, left + wide, low + high


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
