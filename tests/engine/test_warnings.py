"""What a run notes of scores that say nothing: a blind guess beside every split, and teachers no better than it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kdcore.analysis.blind_guess import blind_guess_of, groups_at_guess
from kdcore.config import FineTune, StudentSpec, TeacherSpec
from kdcore.engine import teachers
from kdcore.engine.evaluate import blind_guess, is_blind_guess
from kdcore.errors import UserError
from kdcore.events import RunStarted
from kdcore.models.students import save_student
from kdcore.runs.event_log import describe
from kdcore.tasks import TASKS
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run


def started(trained, specs, **changes):
    return next(event for event in trained(run("kd", specs, **changes)).events if isinstance(event, RunStarted))


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


def test_what_preflight_warns_of_models_is_told_by_a_run_too(trained, shelf):
    """A queued run and a cell of a sweep start without a pre-flight."""
    teacher = world.teacher(shelf, "other-classes")
    config = Path(teacher.where) / "config.json"
    names = {"id2label": {"0": "ham", "1": "spam"}, "label2id": {"ham": 0, "spam": 1}}
    config.write_text(json.dumps(json.loads(config.read_text()) | names))
    first, *_ = started(trained, [teacher]).facts["warnings"]
    assert first.startswith("teacher other-classes: it names its classes ham, spam, the task's are")
    assert "make sure that they mean the same" in first


@pytest.mark.parametrize(
    ("student", "field"),
    [({"width": 24, "heads": 2, "init": "base"}, "student.width"), ({"layers": 5, "init": "base"}, "student.layers")],
)
def test_weights_that_cannot_fill_the_student_end_a_run_before_its_teacher_is_trained(
    trained, shelf, monkeypatch, student, field
):
    base = world.teacher(shelf, "base-to-tune").model_copy(update={"fine_tune": FineTune(epochs=1)})
    monkeypatch.setattr(teachers, "_train", lambda *args: pytest.fail("the teacher was trained first"))
    with pytest.raises(UserError) as said:
        trained(run("kd", [base], student=StudentSpec(**{"layers": 1, **student})))
    assert said.value.field == field


def test_a_word_beyond_the_embeddings_ends_a_run_before_its_teacher_is_trained(trained, shelf, monkeypatch):
    save_student(world.model(), world.tokenizer_from_vocabulary((*world.VOCABULARY, "beyond")), shelf / "too-long")
    base = TeacherSpec(name="long", source="folder", where=str(shelf / "too-long"), fine_tune=FineTune(epochs=1))
    monkeypatch.setattr(teachers, "_train", lambda *args: pytest.fail("the teacher was trained first"))
    with pytest.raises(UserError, match="'beyond'") as said:
        trained(run("kd", [base]))
    assert said.value.field == "teachers.long"


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
