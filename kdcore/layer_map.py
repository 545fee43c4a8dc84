"""Which teacher layers each student layer learns from. Layers count from 1; 0 is the embedding output."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from kdcore.errors import UserError

LayerMap = dict[int, tuple[int, ...]]
"""Student layer -> the teacher layers that it learns from. The rules below pair one with one; `alone` joins the two."""


def alone(pairs: Mapping[int, int]) -> LayerMap:
    """Each student layer with its one teacher layer: alone({1: 3}) is {1: (3,)}."""
    return {student: (teacher,) for student, teacher in pairs.items()}


def single(layers: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """Back from `alone`. Raises ValueError where a student layer has several teacher layers."""
    return {student: teacher for student, (teacher,) in layers.items()}


def pairs(layers: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Every (student layer, teacher layer) of the map, in its order."""
    return ((student, teacher) for student, several in layers.items() for teacher in several)


def sides(layers: Mapping[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The student's layers of a map of one to one, in its order, and the teacher's, each once and in theirs.

    sides({2: 4, 1: 4}) is ((2, 1), (4,)).
    """
    return tuple(layers), tuple(sorted(set(layers.values())))


def every(student: int, teacher: int) -> LayerMap:
    """Each student layer with all layers of the teacher."""
    return {m: tuple(range(1, teacher + 1)) for m in range(1, student + 1)}


def blocks(student: int, teacher: int) -> LayerMap:
    """m -> the layers (m - 1) N / M + 1 to m N / M: consecutive blocks without a gap; blocks(2, 4) is {1: (1, 2), 2:
    (3, 4)}.

    Where N / M is not whole, blocks differ by one layer; a student deeper than its teacher repeats layers.
    """
    starts = [(m - 1) * teacher // student for m in range(1, student + 2)]
    return {m: tuple(range(low + 1, max(low + 1, high) + 1)) for m, (low, high) in enumerate(pairwise(starts), start=1)}


def random_layers(student: int, teacher: int, seed: int) -> dict[int, int]:
    """M different teacher layers, drawn with this seed, in their order."""
    _no_deeper("random", student, teacher)
    chosen = random.Random(seed).sample(range(1, teacher + 1), student)
    return dict(enumerate(sorted(chosen), start=1))


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


def from_setting(
    rule: str | tuple[int, ...], student: int, teacher: int, count: int | None = None, field: str = "options.layers"
) -> dict[int, int]:
    """The map of a setting that is the name of a rule or a list of teacher layers, for student layers 1 to `count`.

    Args:
        student, teacher: depths. count: how many student layers are mapped, from the first; None: all.

    Raises:
        UserError: a rule that does not fit the depths, a list of another length, or a layer the teacher does not have.
    """
    count = student if count is None else count
    if isinstance(rule, str):
        try:
            whole = RULES[rule](student, teacher)
        except UserError as error:
            raise UserError(field, error.problem, "choose spread, which fits any two depths") from None
        return {m: n for m, n in whole.items() if m <= count}
    if len(rule) != count:
        raise UserError(
            field,
            f"lists {len(rule)} teacher layers, but a student of {student} layers has {count} to match",
            f"list {count}, or choose a rule such as spread",
        )
    try:
        return explicit(rule, teacher)
    except UserError as error:
        raise UserError(field, error.problem, error.remedy) from None


def _no_deeper(name: str, student: int, teacher: int) -> None:
    if student > teacher:
        raise UserError(
            "layer map", f"{name!r} needs a student no deeper than its teacher, {student} > {teacher}", "use 'spread'"
        )
