"""The sentences about several teachers and their mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from kdcore.methods.catalog import title_of
from kdcore.probes import ensemble
from kdcore.probes.ensemble import MIXTURE, STUDENT, Mixed
from kdcore.store import RunRow
from pages.parts.common.text import listed, plain

if TYPE_CHECKING:
    from kdcore.analysis.teacher_mixture import TeacherMixture

WOULD_SHOW = (
    "With two teachers or more this part shows each teacher's answer to a sentence, what it weighs, the mixture that "
    "the student learned from, who is against it, and whether the mixture is better than the best teacher alone."
)


def answer(table: pd.DataFrame, mixed: Mixed, rows: pd.DataFrame, temperature: float) -> str:
    """Whether the mixture is better than the best teacher, and how often the teachers agree; Markdown.

    Args:
        table: `ensemble.quality` of teachers, mixture and student. rows: `ensemble.rows`.
    """
    best = ensemble.best_teacher(table, mixed.teachers)
    name, mean, alone = plain(best, 40), table.loc[MIXTURE], table.loc[best]
    if mixed.regression:
        gap = mean["error"] - alone["error"]
        verdict = "nearer to gold than" if gap < 0 else "no nearer to gold than"
        return (
            f"**The mixture is {verdict} teacher {name}, the best alone**: mean error {mean['error']:.3f} against "
            f"{alone['error']:.3f}, Pearson {mean['pearson']:.3f} against {alone['pearson']:.3f}. The teachers' scores "
            f"lie {rows['disagreement'].mean():.2f} apart on average. The student's error is "
            f"{table.loc[STUDENT]['error']:.3f}."
        )
    gap = 100 * (mean["accuracy"] - alone["accuracy"])
    verdict = "right more often than" if gap > 0 else "right as often as" if gap == 0 else "right less often than"
    at = "" if temperature == 1 else f" at T = {temperature:g}"
    return (
        f"**The mixture is {verdict} teacher {name}, the best alone**: {100 * mean['accuracy']:.1f}% against "
        f"{100 * alone['accuracy']:.1f}% ({gap:+.1f} points), NLL {mean['nll']:.3f} against {alone['nll']:.3f} nats"
        f"{at}. All {len(mixed.teachers)} teachers agree on **{100 * rows['agree'].mean():.1f}%** of "
        f"{len(rows):,} rows. The student is right on {100 * table.loc[STUDENT]['accuracy']:.1f}%."
    )


def mixing(title: str, mixture: TeacherMixture) -> str:
    """How the method came to this mixture."""
    name = plain(title)
    if mixture.method.kind == "draw":
        return (
            f"{name} draws one teacher a step, whose answer is then the whole soft target. The mixture weighs each "
            "teacher by its chance: the target that is expected over steps."
        )
    source = "as the method logged them" if mixture.method.weights else "all alike, as the method defines them"
    return f"In {name} every row's soft target is this weighted mean; weights {source}."


def no_weights(title: str, mixture: TeacherMixture | None) -> str:
    """Why there is no mixture, and what is shown in its place."""
    return f"{_why(plain(title), mixture)} Below, the plain mean of the teachers stands where the mixture would."


def _why(name: str, mixture: TeacherMixture | None) -> str:
    if mixture is None:
        return f"With these settings {name} makes no soft target of its teachers' answers, so they have no weights."
    if mixture.method.kind == "changing":
        used = listed(f"{plain(teacher)} {100 * share:.0f}%" for teacher, share in mixture.counted.items())
        shares = f" At the end of training each was used for so many of the rows: {used}." if used else ""
        return f"In {name} the weights differ from step to step or row to row: none holds throughout.{shares}"
    if mixture.method.kind == "rows":
        asked = listed(f"{plain(teacher)} {100 * share:.0f}%" for teacher, share in mixture.counted.items())
        shares = f" At the end of training each answered so many of the rows: {asked}." if asked else ""
        return f"In {name} one teacher answers each row, chosen at each step by how unsure the student is.{shares}"
    return f"{name} weighs its teachers, but this run logged no weights."


def one_teacher(row: RunRow, names: Sequence[str], chain: Sequence[tuple[str, int]]) -> str:
    """What the part has to say of a run with one teacher or none."""
    if not names:
        return f"This run had **no teacher**. {WOULD_SHOW}"
    if not chain:
        return f"This run had **one teacher**, {plain(names[0])}, whose answer is the whole soft target. {WOULD_SHOW}"
    steps = " → ".join([
        f"teacher {plain(names[0])}",
        *(f"{plain(name)} ({layers} layers)" for name, layers in chain),
        "student",
    ])  # fmt: skip
    return (
        f"{plain(title_of(row.method))} has **one teacher at a time**: {steps}. The student's soft targets are those "
        f"of the last assistant, which is not kept. {WOULD_SHOW}"
    )
