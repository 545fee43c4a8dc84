"""What was lost: the answer in words, its parts, and what the page says where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdcore.data import load
from tests.helpers import kept_answers
from tests.helpers.kept_answers import answers, keep
from tests.helpers.store_factory import add, run_config, words

TEACHER = {"name": "large", "source": "pocket", "where": "large"}


def made(store: Any, method: str, seed: int, skill: float, layers: int = 2) -> str:
    size = {"layers": layers, "width": 32, "heads": 2, "init": "random"}
    ours = answers(skill, seed)
    score = float((ours.argmax(1) == kept_answers.GOLD).mean())
    run = add(store, run_config(method, seed, student=size, teachers=[TEACHER]), score=score)
    keep(run, {"student": ours, "large": answers(0.95, 100)})
    return run


def test_the_answer_says_gap_rows_and_what_training_alone_loses(store: Any, visit: Callable[..., Any]) -> None:
    runs = [made(store, method, seed, skill) for method, skill in (("kd", 0.8), ("fine-tune", 0.7)) for seed in (0, 1)]
    app = visit("lost", job=runs[0])
    said = words(app).replace("\\", "")
    assert not app.exception and not app.error
    assert "The student lost" in said and "of the rows that the teacher has right" in said
    assert "Training the same student alone loses" in said and "distillation raises" in said
    assert "One size was trained with these settings" in said
    assert len(app.dataframe[0].value) == 2, "one row a seed"


def test_several_sizes_are_a_map_and_a_slope(store: Any, visit: Callable[..., Any]) -> None:
    runs = [made(store, "kd", 0, 0.6 + 0.08 * layers, layers) for layers in (1, 2, 4)]
    app = visit("lost", job=runs[1])
    said = words(app).replace("\\", "")
    assert not app.exception and not app.error
    assert "Over these 3 sizes of KD, doubling the layers changes the gap by -" in said
    assert "no finished run of it has this size and protocol" in said


def test_a_student_as_good_as_its_teacher_is_not_said_to_have_lost(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"), score=0.95)
    keep(run, {"student": answers(0.95, 100), "large": answers(0.95, 100)})
    said = words(visit("lost", job=run)).replace("\\", "")
    assert "No loss is shown" in said and "0.0 % of the rows" in said


def test_rows_of_this_machine_give_the_marks(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = load("pocket-sentiment", None).splits["validation"]
    for name, value in (("IDS", split.ids), ("GOLD", split.labels), ("ROWS", len(split))):
        monkeypatch.setattr(kept_answers, name, value)
    app = visit("lost", job=made(store, "kd", 0, 0.7))
    assert not app.exception and not app.error
    assert "What predicts a lost row" in words(app) and "are not those that the run was scored on" not in words(app)
    assert "interval" in words(app)


def test_runs_without_a_teachers_answers_say_so(store: Any, visit: Callable[..., Any]) -> None:
    alone, taught = add(store, run_config("fine-tune")), add(store, run_config("kd"))
    assert "had **no teacher**" in words(visit("lost", job=alone))
    assert "kept **no predictions**" in words(visit("lost", job=taught))
