"""Which student keeps to the bounds at least cost, in a sentence."""

from __future__ import annotations

import pandas as pd

from kdcore.analysis.budget import Choice
from kdcore.analysis.cost_axes import Axis
from kdcore.formatting import listed
from pages.parts.common.text import plain

EVEN = 0.03
"""Share by which two speeds may differ and still be called the same."""
NEVER = "never timed in turn with that teacher on a quiet machine"


def answer(choice: Choice, share: float, axis: Axis) -> str:
    """The answer in Markdown. share: of the best teacher's score that was asked for."""
    wanted = _wanted(choice, share, axis)
    if choice.busy:
        return _undecided(choice, wanted, axis)
    if choice.student is None:
        return _none(choice, wanted, share, axis) + _rival(choice, axis)
    text = f"The {axis.best} student {wanted} is {_described(choice.student, axis)}{_beside_teacher(choice, axis)}."
    if choice.student["n"] > 1 and choice.student["quality"] - choice.student["quality_spread"] < choice.least:
        text += " Another seed may fall below that score."
    if choice.best is not None:
        text += f" The best within that cost is {_described(choice.best, axis)}."
    return text + _rival(choice, axis)


def _wanted(choice: Choice, share: float, axis: Axis) -> str:
    """`with at least 90% of teacher large (91.5) within 10 ms a row`."""
    parts = []
    if choice.teacher is not None:
        parts.append(f"with at least {100 * share:g}% of {plain(choice.teacher['label'])} "
                     f"({choice.teacher['quality']:.1f})")  # fmt: skip
    if choice.bound is not None:
        parts.append(f"{'within' if axis.better == 'less' else 'at no less than'} {axis.number(choice.bound)}")
    return " ".join(parts) or "here"


def _described(model: pd.Series, axis: Axis) -> str:
    spread = f" ± {model['quality_spread']:.1f}" if model["n"] > 1 else ""
    seeds = f"{model['n']} seed{'' if model['n'] == 1 else 's'}"
    return f"**{plain(model['label'])}**: {model['quality']:.1f}{spread} ({seeds}), {axis.number(model['cost'])}"


def _undecided(choice: Choice, wanted: str, axis: Axis) -> str:
    """The times that the answer would rest on are not to be trusted."""
    were = "was" if len(choice.busy) == 1 else "were"
    text = (
        f"**Cannot be said, time again.** Other work used the machine while {listed(map(plain, choice.busy), 3)} "
        f"{were} timed, so which student {wanted} is {axis.best} is open."
    )
    if choice.student is not None:
        text += f" On that busy machine it was **{plain(choice.student['label'])}**."
    return text


def _none(choice: Choice, wanted: str, share: float, axis: Axis) -> str:
    """No student keeps to the bounds: what comes nearest."""
    nearest = choice.cheap
    if nearest is None and choice.good is None:
        return f"No student was measured here, so none {wanted} is known."
    text = f"No student {wanted} is among these runs"
    if choice.good is not None:
        text += f": {_described(choice.good, axis)}, has the score and costs more"
    if nearest is not None and choice.teacher is not None:
        reached = f"{100 * nearest['quality'] / choice.teacher['quality']:.1f}%"
        text += f"; **{plain(nearest['label'])}** comes nearest with {reached}, {axis.number(nearest['cost'])}"
    return f"{text}."


def _beside_teacher(choice: Choice, axis: Axis) -> str:
    """What the student's cost is to the best teacher's."""
    student, teacher = choice.student, choice.teacher
    if student is None or teacher is None:
        return ""
    if axis.timed:
        return ", " + speed_text(choice.ratio if axis.better == "less" else choice.ratio and 1 / choice.ratio)
    if axis.in_turn:  # what both used in one session
        return f", {1 / choice.ratio:.0%} of that teacher's" if choice.ratio else f", {NEVER}"
    return f", {student['cost'] / teacher['cost']:.0%} of that teacher's" if teacher["cost"] > 0 else ""


def speed_text(times: float | None) -> str:
    """How fast a student is beside its teacher. times: the teacher's time over the student's; None: not known.

    >>> speed_text(4.0), speed_text(0.2)
    ('4.0 times as fast as that teacher', '5.0 times slower than that teacher')
    """
    if times is None:
        return NEVER
    if abs(times - 1) <= EVEN:
        return "as fast as that teacher"
    return (
        f"{times:.1f} times as fast as that teacher" if times > 1 else f"{1 / times:.1f} times slower than that teacher"
    )


def _rival(choice: Choice, axis: Axis) -> str:
    """Says so where a teacher, or a compressed one, does it for less."""
    rival = choice.rival
    if rival is None:
        return ""
    label, numbers = f"**{plain(rival['label'])}**", f"{rival['quality']:.1f}, {axis.number(rival['cost'])}"
    if choice.student is not None and rival["quality"] >= choice.student["quality"]:
        itself = " itself" if rival["kind"] == "teacher" else ""
        return f" But {label}{itself} is better and {axis.comparative}: {numbers}."
    return f" Without any distillation, {label} does it for less: {numbers}."
