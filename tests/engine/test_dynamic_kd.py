"""Dynamic KD in the engine: teachers run on the rows that they are asked, and on no others."""

from __future__ import annotations

import pytest

from kdcore.events import RunFinished, StepDone
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run

EPOCH = (16, 16, 16, 16, 16, 10)
"""Rows of each batch of an epoch; a run has two."""


@pytest.mark.parametrize(
    ("options", "teachers", "asked"),
    [
        ({"part": "rows", "ratio": 0.5}, 1, 2 * sum(rows // 2 for rows in EPOCH)),
        ({"part": "rows", "ratio": 0.01}, 1, 2 * len(EPOCH)),
        ({"part": "rows", "selection": "none", "ratio": 0.01}, 1, 2 * sum(EPOCH)),
        ({}, 2, 2 * sum(EPOCH)),
        ({"adoption": "soft"}, 2, 2 * 2 * sum(EPOCH)),
    ],
)
def test_so_many_rows_go_through_teachers(trained, three_teachers, options, teachers, asked):
    done = trained(run("dynamic-kd", three_teachers[:teachers], options, teacher_cache=False))
    assert done.of(RunFinished)[0].summary["cache"]["live"] == asked


def test_a_larger_teacher_is_asked_what_the_student_is_surer_of(trained, shelf):
    """Half of each batch each, whichever is named first; what is told of it is smoothed over steps."""
    large = world.teacher(shelf, "large", layers=4, seed=41)
    small = world.teacher(shelf, "small", layers=2, seed=42)
    for teachers in ([large, small], [small, large]):
        done = trained(run("dynamic-kd", teachers, max_steps=4))
        for step in done.of(StepDone):
            assert set(step.raw) == {"hard", "soft/small", "soft/large"}
            shares = [step.notes[f"rows asked/{name}"] for name in ("small", "large")]
            assert shares == pytest.approx([0.5, 0.5])
