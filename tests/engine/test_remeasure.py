"""A finished run measured again, here and in a process of its own; times are never asserted."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from kdcore.engine import measure_process, remeasure
from kdcore.engine.measure_process import OwnProcess
from kdcore.errors import UserError
from kdcore.events import Probed, Progress, RunStarted
from tests.helpers import zeus_double
from tests.helpers.tiny_task import STUDENT, run


@pytest.fixture
def finished(trained: Any, one_teacher: Any) -> tuple[Any, Path, dict[str, Any]]:
    settings = run("kd", one_teacher, student=STUDENT.model_copy(update={"layers": 1}))
    done = trained(settings)
    (started,) = done.of(RunStarted)
    return settings, done.folder, json.loads(json.dumps(started.facts, default=str))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remeasure, "REPEATS", 2)


def _probed(events: Any) -> dict[str, Any]:
    return {event.name: event.data for event in events if isinstance(event, Probed)}


def test_student_and_teacher_are_timed_as_the_run_was(finished: Any) -> None:
    settings, folder, facts = finished
    found = _probed(remeasure.measure(settings, folder, facts, {}))
    assert set(found) == {"latency"}
    records = found["latency"]["records"]
    names = {"student", *facts["teachers"]}
    assert {(r["name"], r["batch"]) for r in records} == {(name, batch) for name in names for batch in (1, 32)}
    assert {(r["name"], r["tokens"]) for r in records} == set(facts["row"]["tokens"].items())
    assert {r["words"] for r in records} == {facts["row"]["words"]}
    assert {r["threads"] for r in records} == {facts["threads"]}
    assert json.loads((folder / "probes" / "latency.json").read_text()) == found["latency"]
    student = (folder / "student-best" / "model.safetensors").stat().st_size
    assert {r["disk"] for r in records if r["name"] == "student"} == {student}
    assert all(r["disk"] and r["memory"] > 0.9 * r["disk"] for r in records)


def test_a_run_that_did_not_say_how_long_its_row_is_has_it_counted(finished: Any) -> None:
    settings, folder, facts = finished
    older = {name: value for name, value in facts.items() if name != "row"}
    records = _probed(remeasure.measure(settings, folder, older, {}))["latency"]["records"]
    assert {(r["name"], r["tokens"]) for r in records} == set(facts["row"]["tokens"].items())
    assert {r["words"] for r in records} == {facts["row"]["words"]}


def test_energy_is_counted_where_there_is_a_counter_and_else_its_absence_is_said(
    finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder, facts = finished
    zeus_double.uninstall(monkeypatch)
    records = _probed(remeasure.measure(settings, folder, facts, {}))["latency"]["records"]
    assert {r["energy_mj"] for r in records} == {None}
    assert all("no energy counter here" in r["energy_note"] for r in records)
    zeus_double.install(monkeypatch, zeus_double.Counters(cpus={0: 5.0}))
    monkeypatch.setattr(remeasure.latency, "ENERGY_SECONDS", 0.0)
    records = _probed(remeasure.measure(settings, folder, facts, {}))["latency"]["records"]
    assert {(r["energy_mj"], r["energy_note"]) for r in records} == {(0.0, "")}, "this counter stands still"


def test_rivals_are_scored_on_the_runs_dev_split_and_timed_in_turn(finished: Any) -> None:
    settings, folder, facts = finished
    (teacher,) = facts["teachers"]
    before = torch.get_num_threads()
    events = list(remeasure.measure(settings, folder, facts, {}, teacher))
    assert torch.get_num_threads() == before
    assert any(isinstance(event, Progress) and "bf16" in event.what for event in events)
    found = _probed(events)["rivals"]
    by_kind = {model["kind"]: model for model in found["models"]}
    assert set(by_kind) | set(found["absent"]) == {"bf16", "int8", "cut"}
    whole = facts["teachers"][teacher]["scores"]["validation"]["accuracy"]
    rows = 30
    for kind in set(by_kind) - {"cut"}:
        assert abs(by_kind[kind]["scores"]["validation"]["accuracy"] - whole) <= 2 / rows
    assert {r["name"] for r in found["records"]} == {model["name"] for model in found["models"]}
    assert all(name.startswith(f"{teacher}:") for name in {r["name"] for r in found["records"]})
    assert found["layers"] == [1] and found["teacher"] == teacher


def test_records_of_another_machine_are_kept_and_a_training_marks_new_ones(finished: Any) -> None:
    settings, folder, facts = finished
    old = {"records": [{"name": "student", "hardware": "elsewhere", "median_ms": 1.0}]}
    found = _probed(remeasure.measure(settings, folder, facts, {"latency": old}, beside=lambda: True))
    *new, last = found["latency"]["records"]
    assert last == old["records"][0] and all(record["busy"] for record in new)


def test_what_cannot_be_measured_is_said(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, folder, facts = finished
    (teacher,) = facts["teachers"]
    with pytest.raises(UserError, match="no longer where the run found it"):
        list(remeasure.measure(settings, folder, facts, {}, "nobody"))
    with pytest.raises(UserError, match="kept no best student"):
        list(remeasure.measure(settings, folder.parent / "nothing", facts, {}))
    kept = remeasure.results.predictions(folder)
    moved = {key: {**said, "ids": said["ids"] + 1} for key, said in kept.items()}
    monkeypatch.setattr(remeasure.results, "predictions", lambda _: moved)
    with pytest.raises(UserError, match="not the one this run was scored on"):
        list(remeasure.measure(settings, folder, facts, {}, teacher))


def test_the_child_answers_orders_asks_back_and_tells_errors(finished: Any) -> None:
    settings, folder, facts = finished
    order = {"run": settings.model_dump(mode="json"), "folder": str(folder), "facts": facts, "known": {}}
    lines = [order | {"rivals_of": None}, {"beside": False}, {"beside": True}, order | {"rivals_of": "nobody"}]
    answers = io.StringIO()
    measure_process.serve(io.StringIO("".join(f"{json.dumps(line)}\n" for line in lines)), answers, remeasure.measure)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [next(iter(one)) for one in said] == ["progress", "ask", "ask", "probed", "end", "error"]
    assert all(record["busy"] for record in said[3]["probed"][2]["records"])


HELPER = """
import pathlib, subprocess, sys
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(__file__).with_name("helper").write_text(str(helper.pid))
raise ImportError
"""


def test_a_helper_that_outlives_the_child_does_not_keep_its_answers_open(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zeus").mkdir()
    (tmp_path / "zeus" / "device.py").write_text(HELPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with OwnProcess() as child:
        assert set(_probed(child.measure(*finished, {}))) == {"latency"}
        helper = psutil.Process(int((tmp_path / "zeus" / "helper").read_text()))
        child.end()
        with pytest.raises((RuntimeError, OSError)):
            list(child.measure(*finished, {}))
        assert helper.is_running(), "the end was seen before the helper's"
        helper.kill()


def test_a_process_of_its_own_measures_and_can_be_ended(finished: Any) -> None:
    settings, folder, facts = finished
    asked = []
    with OwnProcess() as child:
        events = list(child.measure(settings, folder, facts, {}, None, lambda: bool(asked.append(1))))
        assert set(_probed(events)) == {"latency"} and len(asked) == 2
        with pytest.raises(UserError, match="no longer where"):
            list(child.measure(settings, folder, facts, {}, "nobody"))
        child.end()
        with pytest.raises((RuntimeError, OSError)):
            list(child.measure(settings, folder, facts, {}))
