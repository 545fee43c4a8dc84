"""What was lost: the answer in words, its parts, and what the page says where there is nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdcore.data import load
from kdcore.events import Event, Probed, Progress
from kdcore.paths import run_dir
from pages.parts.common.measurement import remeasurer
from pages.parts.lost import probes
from tests.helpers import kept_answers
from tests.helpers.kept_answers import answers, keep
from tests.helpers.linear_probes import probe
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


class Scripted:
    """In place of the child that probes."""

    teacher = ""

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *about: object) -> None: ...

    def end(self) -> None: ...

    def measure(self, run: Any, folder: Path, facts: Any, known: Any, teacher: Any, beside: Any) -> Iterator[Event]:
        self.teacher = teacher
        yield Progress("student, probes on layer 1", 1, 2)
        yield Probed("linear_probe", 60, probe())


def on_this_disk(run: str, tmp_path: Path) -> None:
    (run_dir(run) / "student-best").mkdir(parents=True)
    (tmp_path / "teacher").mkdir()
    (run_dir(run) / "teachers.json").write_text(json.dumps({"large": str(tmp_path / "teacher")}))


def test_layers_are_probed_once_in_the_background_and_drawn(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, scripted = made(store, "kd", 0, 0.8), Scripted()
    on_this_disk(run, tmp_path)
    monkeypatch.setattr(probes, "open_process", lambda: scripted)
    app = visit("lost", job=run)
    assert "Can a linear classifier tell" in words(app)
    app.button(key="lost_probe").click().run()
    remeasurer().wait(60)
    app.run()
    said = words(app).replace("\\", "")
    assert not app.exception and not app.error and scripted.teacher == "large"
    assert "reads less of **the task's label** (20.0 points, 95 % 16.0 to 24.0) from the student" in said
    assert "No gap is shown for length in words" in said and "over 150 dev rows that it was not fitted on" in said
    assert "Not told: Negation, 3 of 150 rows" in said and "4 in the teacher and 2 in the student" in said
    assert not [button for button in app.button if button.key == "lost_probe"], "it is kept beside the run"
    cls = words(visit("lost", job=run, probed="[CLS]")).replace("\\", "")
    assert "no gap is shown: every interval includes 0" in cls


def test_what_cannot_be_probed_says_why(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = made(store, "kd", 0, 0.8)
    assert "is no longer on this disk, so their layers cannot be probed" in words(visit("lost", job=run))
    on_this_disk(run, tmp_path)
    monkeypatch.setattr(probes, "LEAST_ROWS", 1000)
    app = visit("lost", job=run)
    assert "The dev split has 300 rows. A probe takes 1000, so nothing is told." in words(app)
    assert not [button for button in app.button if button.key == "lost_probe"]


def test_runs_without_a_teachers_answers_say_so(store: Any, visit: Callable[..., Any]) -> None:
    alone, taught = add(store, run_config("fine-tune")), add(store, run_config("kd"))
    assert "had **no teacher**" in words(visit("lost", job=alone))
    assert "kept **no predictions**" in words(visit("lost", job=taught))
