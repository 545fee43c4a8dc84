"""What a run notes of scores that say nothing: a blind guess beside every split, and teachers no better than it."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.analysis.blind_guess import blind_guess_of, groups_at_guess
from kdcore.engine.evaluate import blind_guess, is_blind_guess
from kdcore.events import RunStarted
from kdcore.runs.event_log import describe
from kdcore.tasks import TASKS
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run


def started(trained, teachers, **changes):
    return next(event for event in trained(run("kd", teachers, **changes)).events if isinstance(event, RunStarted))


def test_a_blind_guess_stands_beside_every_split(trained, one_teacher):
    facts = started(trained, one_teacher).facts
    labels = world.data_of().splits["validation"].labels
    assert set(facts["blind_guess"]) == {"select", "validation"}
    shares = {float((labels == label).mean()) for label in (0, 1)}
    assert facts["blind_guess"]["validation"]["accuracy"] in shares
    assert blind_guess_of(facts, "accuracy") == facts["blind_guess"]["validation"]["accuracy"]


def test_an_untrained_teacher_is_told_before_the_student_learns(trained, shelf):
    """Its one answer for all rows is the blind guess itself."""
    teacher = world.teacher(shelf, "blank", spread=1e-6)
    event = started(trained, [teacher])
    (warning,) = event.facts["warnings"]
    assert warning.startswith("teacher blank has accuracy") and "blind guess" in warning
    assert f"warning: {warning}" in describe(event).splitlines()


def test_a_teacher_that_learned_is_not_told(trained, one_teacher):
    learned = trained(run("fine-tune", epochs=8)).folder / "student-best"
    teacher = one_teacher[0].model_copy(update={"where": str(learned)})
    assert started(trained, [teacher]).facts["warnings"] == []


@pytest.mark.parametrize(
    ("metric", "score", "guess", "rows", "blind"),
    [
        ("accuracy", 0.684, 0.684, 408, True),
        ("accuracy", 0.684 + 2.1 * (0.684 * 0.316 / 408) ** 0.5, 0.684, 408, False),
        ("matthews", 0.05, 0.0, 1043, True),
        ("matthews", 0.07, 0.0, 1043, False),
        ("accuracy", 0.2, 0.5, 100, True),
        ("f1", 1.0, 1.0, 10, True),
    ],
)
def test_two_standard_errors_part_a_score_from_a_guess(metric, score, guess, rows, blind):
    assert is_blind_guess(metric, score, guess, rows) is blind


def test_the_guess_is_the_training_rows_most_frequent_label():
    task = TASKS[world.SENTIMENT]
    guess = blind_guess(task, np.array([1, 1, 1, 0]), np.array([0, 0, 0, 1]))
    assert guess["accuracy"] == 0.25  # 1 is said, and one row of four has it


def test_groups_at_a_blind_guess_are_named():
    import pandas as pd

    finished = pd.DataFrame({"label": ["a", "a", "b", "b"], "score": [0.5, 0.52, 0.8, 0.9]})
    assert groups_at_guess(finished, "accuracy", 0.5, 200) == ["a"]
    assert blind_guess_of({}, "accuracy") is None and blind_guess_of({"blind_guess": 3}, "accuracy") is None
