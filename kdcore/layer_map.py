"""Which teacher layer each student layer learns from. Layers count from 1; 0 is the embedding output."""

from __future__ import annotations

import math
from collections.abc import Callable

from kdcore.errors import UserError


def uniform(student: int, teacher: int) -> dict[int, int]:
    """m -> m * N / M for m = 1..M (TinyBERT, section 3; uniform(4, 12) is {1: 3, 2: 6, 3: 9, 4: 12}).

    Raises:
        UserError: M does not divide N; an explicit map is the remedy.
    """
    if teacher % student:
        raise UserError(
            "layer map",
            f"uniform needs the student's layers to divide the teacher's, but {teacher} / {student} is not whole",
            "choose 'spread', 'last', 'first' or an explicit map such as 2,4",
        )
    return {m: m * teacher // student for m in range(1, student + 1)}


def spread(student: int, teacher: int) -> dict[int, int]:
    """m -> round(m * N / M), at least 1: `uniform` where it divides, the nearest whole layers where it does not."""
    return {m: max(1, int(m * teacher / student + 0.5)) for m in range(1, student + 1)}


def common(student: int, teacher: int) -> dict[int, int]:
    """The layers at depths that both have: i M / g -> i N / g for i = 1..g-1, where g divides M and N (their gcd).

    Empty where M and N have no common divisor. common(9, 12) is {3: 4, 6: 8}.
    """
    shared = math.gcd(student, teacher)
    return {i * student // shared: i * teacher // shared for i in range(1, shared)}


def last(student: int, teacher: int) -> dict[int, int]:
    """m -> N - M + m: the student's layers beside the teacher's last ones."""
    _no_deeper("last", student, teacher)
    return {m: teacher - student + m for m in range(1, student + 1)}


def first(student: int, teacher: int) -> dict[int, int]:
    """m -> m."""
    _no_deeper("first", student, teacher)
    return {m: m for m in range(1, student + 1)}


def explicit(layers: tuple[int, ...] | list[int], teacher: int) -> dict[int, int]:
    """m -> layers[m - 1], checked against the teacher's depth.

    Raises:
        UserError: a layer the teacher does not have.
    """
    wrong = [layer for layer in layers if not 0 <= layer <= teacher]
    if wrong:
        raise UserError("layer map", f"the teacher has layers 0 to {teacher}, not {wrong}", "name existing layers")
    return dict(enumerate(layers, start=1))


def skip_init(student: int, teacher: int) -> list[int]:
    """The teacher layers that fill a student of M layers, evenly spread and ending at the last (1-based)."""
    return list(spread(student, teacher).values())


RULES: dict[str, Callable[[int, int], dict[int, int]]] = {
    "spread": spread,
    "uniform": uniform,
    "last": last,
    "first": first,
}
"""The rules that methods offer by name: (student layers, teacher layers) -> map."""


def _no_deeper(name: str, student: int, teacher: int) -> None:
    if student > teacher:
        raise UserError(
            "layer map", f"{name!r} needs a student no deeper than its teacher, {student} > {teacher}", "use 'spread'"
        )
