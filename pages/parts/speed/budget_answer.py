"""Which student has a wanted share of the teacher's score at least cost, in a sentence."""

from __future__ import annotations

import pandas as pd

from kdcore.analysis.cost_axes import Axis
from kdcore.analysis.pareto import Better
from pages.parts.common.text import plain


def cheapest_student(points: pd.DataFrame, least: float, better: Better) -> pd.Series | None:
    """Of the students with at least this quality the one of least cost; ties go to the better one."""
    known = points[(points["kind"] == "student") & points["cost"].notna() & (points["quality"] >= least)]
    if known.empty:
        return None
    return known.sort_values(["cost", "quality"], ascending=[better == "less", False]).iloc[0]


def answer(points: pd.DataFrame, share: float, axis: Axis) -> str:
    """The cheapest student with at least `share` of the best teacher's score, in Markdown.

    points: see `pareto.points`.
    """
    teachers = points[(points["kind"] == "teacher") & points["quality"].notna()]
    teacher = teachers.sort_values("quality").iloc[-1]
    least = share * teacher["quality"]
    wanted = f"{100 * share:g} % of {plain(teacher['label'])} ({teacher['quality']:.1f})"
    student = cheapest_student(points, least, axis.better)
    if student is None:
        students = points[(points["kind"] == "student") & points["quality"].notna()]
        if students.empty:
            return f"No student was measured here, so none can be compared with {wanted}."
        best = students.sort_values("quality").iloc[-1]
        reached = f"{best['quality'] / teacher['quality']:.1%}"
        text = f"No student reaches {wanted}; **{plain(best['label'])}** comes nearest with {reached}."
        return text + _baseline(points, least, float(teacher["cost"]), axis)
    spread = f" ± {student['quality_spread']:.1f}" if student["n"] > 1 else ""
    seeds = f"{student['n']} seed{'' if student['n'] == 1 else 's'}"
    text = (
        f"The {axis.best} student with at least {wanted} is **{plain(student['label'])}**: "
        f"{student['quality']:.1f}{spread} ({seeds}), {axis.number(student['cost'])}{_ratio(student, teacher, axis)}."
    )
    return text + _baseline(points, least, float(student["cost"]), axis)


def _ratio(student: pd.Series, teacher: pd.Series, axis: Axis) -> str:
    if not teacher["cost"] > 0 or not student["cost"] > 0:
        return ""
    times = teacher["cost"] / student["cost"] if axis.better == "less" else student["cost"] / teacher["cost"]
    if axis.timed:
        return f", {times:.1f} times as fast as that teacher"
    return f", {1 / times:.0%} of that teacher's"


def _baseline(points: pd.DataFrame, least: float, cost: float, axis: Axis) -> str:
    """Says so where a compressed teacher has that quality for less than `cost`."""
    others = points[~points["kind"].isin(["student", "teacher"]) & (points["quality"] >= least)]
    ahead = others["cost"] < cost if axis.better == "less" else others["cost"] > cost
    if not ahead.any():
        return ""
    best = others[ahead].sort_values("cost", ascending=axis.better == "less").iloc[0]
    return (
        f" Without any distillation, **{plain(best['label'])}** does it for less: {best['quality']:.1f}, "
        f"{axis.number(best['cost'])}."
    )
