"""What is left when a share of the teacher is asked for, in a sentence."""

from __future__ import annotations

import pandas as pd

from kdcore.analysis.cost_axes import Axis, Better
from pages.parts.common.text import plain


def best_left(points: pd.DataFrame, least: float, better: Better) -> pd.Series | None:
    """Of the students with at least this quality the one of least cost; ties go to the better one."""
    known = points[(points["kind"] == "student") & points["cost"].notna() & (points["quality"] >= least)]
    if known.empty:
        return None
    return known.sort_values(["cost", "quality"], ascending=[better == "less", False]).iloc[0]


def answer(points: pd.DataFrame, share: float, axis: Axis) -> str:
    """What is left when at least `share` of the best teacher is asked for, in Markdown. points: see `pareto.points`."""
    teachers = points[(points["kind"] == "teacher") & points["quality"].notna()]
    teacher = teachers.sort_values("quality").iloc[-1]
    least = share * teacher["quality"]
    asked = f"{100 * share:g} % of {plain(teacher['label'])} ({teacher['quality']:.1f})"
    found = best_left(points, least, axis.better)
    if found is None:
        students = points[(points["kind"] == "student") & points["quality"].notna()]
        if students.empty:
            return f"No student was measured here, so none can be held against {asked}."
        best = students.sort_values("quality").iloc[-1]
        reached = f"{best['quality'] / teacher['quality']:.1%}"
        words = f"No student reaches {asked}; **{plain(best['label'])}** comes nearest with {reached}."
        return words + _rival(points, least, float(teacher["cost"]), axis)
    spread = f" ± {found['quality_spread']:.1f}" if found["n"] > 1 else ""
    seeds = f"{found['n']} seed{'' if found['n'] == 1 else 's'}"
    words = (
        f"The {axis.best} student with at least {asked} is **{plain(found['label'])}**: "
        f"{found['quality']:.1f}{spread} ({seeds}), {axis.number(found['cost'])}{_ratio(found, teacher, axis)}."
    )
    return words + _rival(points, least, float(found["cost"]), axis)


def _ratio(found: pd.Series, teacher: pd.Series, axis: Axis) -> str:
    if not teacher["cost"] > 0 or not found["cost"] > 0:
        return ""
    times = teacher["cost"] / found["cost"] if axis.better == "less" else found["cost"] / teacher["cost"]
    if axis.timed:
        return f", {times:.1f} times as fast as that teacher"
    return f", {1 / times:.0%} of that teacher's"


def _rival(points: pd.DataFrame, least: float, cost: float, axis: Axis) -> str:
    """Says so where a teacher that was only made cheaper has that quality for less than `cost`."""
    others = points[~points["kind"].isin(["student", "teacher"]) & (points["quality"] >= least)]
    ahead = others["cost"] < cost if axis.better == "less" else others["cost"] > cost
    if not ahead.any():
        return ""
    rival = others[ahead].sort_values("cost", ascending=axis.better == "less").iloc[0]
    return (
        f" Without any distillation, **{plain(rival['label'])}** does it for less: {rival['quality']:.1f}, "
        f"{axis.number(rival['cost'])}."
    )
