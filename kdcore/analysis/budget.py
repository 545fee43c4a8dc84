"""Which model keeps to two bounds, on quality and on cost, and whether that can be said at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from kdcore.analysis.cost_axes import Axis

Ratio = Callable[[str, str], tuple[float, bool] | None]
"""Key of a student and label of another model -> what the other costs over what the student costs, from sessions in
which both were timed, and whether the machine was busy then. None where there is no such session."""


@dataclass(frozen=True)
class Choice:
    """Which models keep to the bounds. Rows are those of `pareto.points`; None where there is none.

    teacher: the best. least: quality asked for, -inf without a teacher. bound: cost asked for, in the axis's unit.
    student: the cheapest student that keeps to both. best: the best of them, where it is another one.
    good, cheap: the cheapest student that is good enough, and the best that is cheap enough, where none is both.
    rival: the cheapest model made without distillation that keeps to both and costs less. ratio: what the teacher costs
    over what the student costs. busy: labels of what was timed on a busy machine, where the choice rests on them.
    """

    least: float
    bound: float | None
    teacher: pd.Series | None = None
    student: pd.Series | None = None
    best: pd.Series | None = None
    good: pd.Series | None = None
    cheap: pd.Series | None = None
    rival: pd.Series | None = None
    ratio: float | None = None
    busy: tuple[str, ...] = ()


def choose(
    points: pd.DataFrame, share: float, bound: float | None, axis: Axis, ratio: Ratio = lambda _student, _other: None
) -> Choice:
    """Looks for the cheapest student with `share` of the best teacher's quality within `bound`.

    Args:
        points: see `pareto.points`. bound: in the axis's unit, None for none. ratio: of costs measured in turn.
    """
    known = points[points["cost"].notna() & points["quality"].notna()]
    teacher = _first(known[known["kind"] == "teacher"], "quality", False)
    least = float("-inf") if teacher is None else share * float(teacher["quality"])
    students = known[known["kind"] == "student"]
    good = students[students["quality"] >= least]
    cheap = students[[axis.meets(cost, bound) for cost in students["cost"]]]
    both = good[good.index.isin(cheap.index)]
    up = axis.better == "less"
    student, best = _first(both, "cost", up), _first(both, "quality", False)
    if bound is None or best is None or student is None or best["label"] == student["label"]:
        best = None
    shown = None
    if axis.in_turn and student is not None and teacher is not None:
        shown = ratio(student["key"], teacher["label"])
    return Choice(
        least,
        bound,
        teacher,
        student,
        best,
        None if student is not None else _first(good, "cost", up),
        None if student is not None else _first(cheap, "quality", False),
        _rival(known, least, bound, axis, student, teacher, ratio),
        shown[0] if shown and not shown[1] else None,
        tuple(good.loc[good["busy"].astype(bool), "label"]) if axis.in_turn else (),
    )


def _rival(
    known: pd.DataFrame, least: float, bound: float | None, axis: Axis, student: pd.Series | None,
    teacher: pd.Series | None, ratio: Ratio,
) -> pd.Series | None:  # fmt: skip
    """The cheapest model that keeps to both bounds and costs less than the student; where there is no student, than
    the best teacher, or anything where a cost was asked for."""
    others = known[(known["kind"] != "student") & (known["quality"] >= least) & ~known["busy"].astype(bool)]
    others = others[[axis.meets(cost, bound) for cost in others["cost"]]]
    if student is not None:
        ahead = [_ahead(student, other, axis, ratio) for _, other in others.iterrows()]
    elif bound is None and teacher is not None:
        ahead = [_less(other["cost"], teacher["cost"], axis) for _, other in others.iterrows()]
    else:
        ahead = [True] * len(others)
    return _first(others[ahead], "cost", axis.better == "less")


def _ahead(student: pd.Series, other: pd.Series, axis: Axis, ratio: Ratio) -> bool:
    """Whether the other model costs less: by the sessions in which both took turns, where there are any."""
    shared = ratio(student["key"], other["label"]) if axis.in_turn else None
    if shared is None:
        return _less(other["cost"], student["cost"], axis)
    return _less(shared[0], 1.0, axis) and not shared[1]


def _less(cost: float, than: float, axis: Axis) -> bool:
    return cost < than if axis.better == "less" else cost > than


def _first(rows: pd.DataFrame, by: str, ascending: bool) -> pd.Series | None:
    """The row of least or most of a column; of equal ones the better, then the cheaper one."""
    if rows.empty:
        return None
    ordered = rows.sort_values(
        [by, "quality"] if by == "cost" else [by], ascending=[ascending, False][: 1 + (by == "cost")]
    )
    return ordered.iloc[0]
