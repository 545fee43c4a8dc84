"""The page Speed: its axes, its bound, its average, and what is measured on a click."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdcore.analysis.cost_axes import AXES
from kdcore.events import Evaluated, Event, Probed, Progress
from kdcore.probes import energy
from kdcore.runs import remeasure
from pages.parts.speed.remeasure import remeasurer
from tests.helpers.store_factory import TEACHER, add, fill, run_config, words

PATIENCE = 60.0


def _plain(app: Any) -> str:
    return words(app).replace("\\", "")


def test_the_fastest_student_is_named_with_its_seeds(store: Any, visit: Callable[..., Any]) -> None:
    made = fill(store, seeds=3)
    app = visit("speed", runs=",".join(made))
    assert not app.exception and "3 seeds" in _plain(app)
    app.number_input(key="sleast").set_value(100.0).run()
    assert "No student with at least 100%" in _plain(app)
    app.number_input(key="sleast").set_value(50.0).run()
    assert "**Fine-tuning alone, 2 x 32**" in _plain(app)


@pytest.mark.parametrize("axis", sorted(AXES))
def test_every_axis_is_drawn_or_says_why_not(axis: str, store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=1)
    app = visit("speed")
    app.selectbox(key="saxis").set_value(axis).run()
    assert not app.exception and not app.error
    missing = axis in ("flops", "disk")  # the written runs have neither a shape nor files
    assert ("has a number for" in words(app)) == missing
    assert ("not measured, time again" in words(app)) == (AXES[axis].kind in ("memory", "energy"))


def test_numbers_come_as_a_table(store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=3)
    app = visit("speed")
    app.session_state["speed_scatter-numbers"] = True
    app.run()
    (table,) = [frame.value for frame in app.dataframe]
    assert {"model", "dev score", "seeds", "share on the front", "busy"} <= set(table.columns)
    assert set(table["seeds"]) == {3, 1}


def _lean(store: Any, run: str, mebibytes: float) -> None:
    """As if the memory of this run's models had been counted: so much for the student, twice that for the teacher."""
    records = store.probes(run)["latency"]["records"]
    size = {"student": mebibytes * 2**20, TEACHER["name"]: 2 * mebibytes * 2**20}
    store.record(run, [Probed("latency", 60, {"records": [r | {"memory": size[r["name"]]} for r in records]})])


def test_memory_is_asked_for_by_address_and_stands_in_the_table(store: Any, visit: Callable[..., Any]) -> None:
    lean, large, old = (add(store, run_config(method)) for method in ("kd", "pkd", "skd"))
    _lean(store, lean, 3)
    _lean(store, large, 30)
    query = {"runs": f"{lean},{large},{old}", "saxis": "Memory, batch 1", "sleast": "50", "smost-memory-1": "5"}
    app = visit("speed", **query)
    assert "The leanest student" in _plain(app) and "within 5 MiB is **KD, 2 x 32**" in _plain(app)
    assert {key: app.query_params[key] for key in query} == query
    assert "Not measured, time again below: Stochastic KD, 2 x 32." in _plain(app)
    app.session_state["speed_scatter-numbers"] = True
    app.run()
    (table,) = [frame.value for frame in app.dataframe]
    assert {"Memory, batch 1", "ms a row", "size on disk (MiB)"} <= set(table.columns)


def test_where_there_is_no_energy_counter_the_reason_is_said(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    records = [record | {"energy_note": energy.NO_RAPL} for record in store.probes(run)["latency"]["records"]]
    store.record(run, [Probed("latency", 60, {"records": records})])
    app = visit("speed", runs=run, saxis="Energy, batch 1")
    assert "Test CPU (2 cores): no energy counter here: the system shows none of its processor (RAPL)" in _plain(app)


def test_a_run_older_than_the_count_of_memory_can_be_measured_again(
    store: Any, visit: Callable[..., Any], tmp_path: Path
) -> None:
    run = add(store, run_config("kd"))
    query = {"runs": run, "saxis": "Memory, batch 1"}
    assert "no longer on this disk, so they cannot be timed here" in _plain(visit("speed", **query))
    _kept(tmp_path, run)
    assert visit("speed", **query).button(key="speed_again_absent").label == "Time again"


def test_runs_of_other_hardware_are_a_choice_and_never_mixed(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("kd", seed)) for seed in range(2)] + [add(store, run_config("pkd"))]
    for run in made[2:]:
        records = store.probes(run)["latency"]["records"]
        moved = [record | {"hardware": "Other GPU"} for record in records]
        store.record(run, [Probed("latency", 60, {"records": moved})])
    app = visit("speed", runs=",".join(made))
    assert len(app.selectbox(key="son").options) == 2
    assert "Measured under other conditions, so not drawn here: Patient KD" in _plain(app)
    app.selectbox(key="son").set_value("Other GPU, fp32, 1 thread, 32 tokens").run()
    assert "not drawn here: KD" in _plain(app)


def _loud(store: Any, run: str) -> None:
    """As if other work had held the cores while this run's models were timed."""
    busy = [record | {"busy": True} for record in store.probes(run)["latency"]["records"]]
    store.record(run, [Probed("latency", 60, {"records": busy})])


def test_a_busy_machine_decides_nothing_and_offers_to_time_again(
    store: Any, visit: Callable[..., Any], tmp_path: Path
) -> None:
    run = add(store, run_config("kd"))
    _loud(store, run)
    app = visit("speed", runs=run, sleast="50")
    assert "Cannot be said, time again" in _plain(app) and "hollow" in _plain(app)
    assert "no longer on this disk, so they cannot be timed here" in _plain(app)
    _kept(tmp_path, run)
    assert visit("speed", runs=run, sleast="50").button(key="speed_again_here").label == "Time again"


def test_the_whole_question_is_in_the_address(store: Any, visit: Callable[..., Any]) -> None:
    made = fill(store, seeds=2)
    query = {"runs": ",".join(made), "saxis": "Latency, batch 32, p90", "sleast": "80", "smost-latency-32-p90": "25"}
    app = visit("speed", **query)
    assert "within 25 ms a batch of 32 (p90) is **Fine-tuning alone, 2 x 32**" in _plain(app)
    assert {key: app.query_params[key] for key in query} == query
    (link,) = [str(code.value) for code in app.code if "saxis=Latency,+batch+32,+p90" in str(code.value)]
    assert "smost-latency-32-p90=25" in link and made[0] in link


def test_another_metric_of_the_task_is_a_choice(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd", task="mrpc"))
    scores = {"student": ("best", 0.4), "teacher": ("teacher:large", 0.5)}
    for which, value in scores.values():
        store.record(run, [Evaluated("distil", 60, "validation", which, {"f1": value}, 1000)])
    app = visit("speed", runs=run, sleast="50")
    assert "of teacher large (93.0)" in _plain(app)
    app.selectbox(key="smetric").set_value("f1").run()
    assert "of teacher large (50.0) is **KD, 2 x 32**: 40.0" in _plain(app)


def test_tasks_have_an_average_that_names_them(store: Any, visit: Callable[..., Any]) -> None:
    made = [
        add(store, run_config(method, seed, task=task))
        for method in ("kd", "pkd")
        for seed in range(3)
        for task in ("pocket-sentiment", "pocket-entailment")
    ]
    made.append(add(store, run_config("pkd", task="pocket-paraphrase")))
    app = visit("speed", runs=",".join(made))
    app.selectbox(key="stask").set_value("pocket").run()
    assert not app.exception and not app.error
    assert "over Pocket sentiment and Pocket entailment (synthetic, no GLUE average)" in _plain(app)
    assert "3 seeds" in _plain(app)


def test_settings_without_a_common_task_have_no_average(store: Any, visit: Callable[..., Any]) -> None:
    made = [
        add(store, run_config("kd", task="pocket-sentiment")),
        add(store, run_config("pkd", task="pocket-paraphrase")),
    ]
    app = visit("speed", runs=",".join(made))
    app.selectbox(key="stask").set_value("pocket").run()
    assert not app.exception and "no task in common" in _plain(app)


class Script:
    """Stands where the measuring process would: says one step, waits to be let on, and finds rivals."""

    def __init__(self) -> None:
        self.go, self.orders, self.ended = threading.Event(), [], False

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def end(self) -> None:
        self.ended = True
        self.go.set()

    def measure(self, run: Any, folder: Path, facts: Any, known: Any, teacher: Any, beside: Any) -> Iterator[Event]:
        self.orders.append((folder.name, teacher, beside()))
        yield Progress("timing 5 models in turn", 0, 1)
        assert self.go.wait(PATIENCE)
        if self.ended:
            raise RuntimeError("ended")
        if run.train.seed == 1:
            raise ValueError("this one cannot be measured")
        scores = {"validation": {"accuracy": 0.92}}
        model = {"name": "large:bf16", "kind": "bf16", "words": "bf16 weights", "parameters": 5, "scores": scores}
        old = known["latency"]["records"]
        mine = [record | {"name": "large:bf16", "median_ms": 0.5} for record in old if record["name"] == teacher]
        found = {"teacher": teacher, "tokens": 32, "models": [model], "records": mine, "absent": {"int8": "no engine"}}
        yield Probed("rivals", 60, found)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    made = Script()
    monkeypatch.setattr(remeasure, "open_process", lambda: made)
    yield made
    made.go.set()
    remeasurer().wait(PATIENCE)


def _kept(tmp_path: Path, run: str) -> None:
    """As if the run's models were on this disk."""
    folder, teacher = tmp_path / "runs" / run, tmp_path / "teacher"
    (folder / "student-best").mkdir(parents=True)
    teacher.mkdir(exist_ok=True)
    (folder / "teachers.json").write_text(f'{{"large": "{teacher}"}}')


def test_where_the_best_seed_kept_no_student_another_ones_is_offered(
    store: Any, visit: Callable[..., Any], tmp_path: Path
) -> None:
    runs = [add(store, run_config("kd", seed)) for seed in range(2)]
    for run, score in zip(runs, (0.7, 0.8), strict=True):
        store.record(run, [Evaluated("end", 60, "select", "best", {"accuracy": score}, 100)])
    query = {"runs": ",".join(runs), "sleast": "50"}
    assert not visit("speed", **query).get("download_button")
    for run, label in zip(runs, ("Download the student of seed 0", "Download the student"), strict=True):
        folder = tmp_path / "runs" / run / "student-best"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        app = visit("speed", **query)
        assert "Open the run (seed 1, best by select)" in [link.proto.label for link in app.get("page_link")]
        assert [button.proto.label for button in app.get("download_button")] == [label]


def test_rivals_are_measured_in_the_background_and_then_drawn(
    store: Any, visit: Callable[..., Any], script: Script, tmp_path: Path
) -> None:
    runs = [add(store, run_config("kd", seed)) for seed in (0, 2)]
    for run in runs:
        _kept(tmp_path, run)
    app = visit("speed", runs=",".join(runs))
    app.button(key="speed_rivals").click().run()
    assert not app.exception and app.button(key="speed_stop").label == "Stop measuring"
    script.go.set()
    remeasurer().wait(PATIENCE)
    app.run()
    assert [teacher for _, teacher, _ in script.orders] == ["large"], "one run speaks for those that share a teacher"
    assert "Without any distillation, **teacher large, bf16 weights** does it for less" in _plain(app)
    assert "Teacher large, int8: not measured, no engine." in _plain(app)


def test_what_fails_is_a_card_and_a_training_beside_is_told(
    store: Any, visit: Callable[..., Any], script: Script, tmp_path: Path
) -> None:
    run = add(store, run_config("kd", 1))
    _kept(tmp_path, run)
    add(store, run_config("pkd", 5), end="running")
    app = visit("speed", runs=run)
    assert "A training is running" in _plain(app)
    script.go.set()
    app.button(key="speed_again").click().run()
    remeasurer().wait(PATIENCE)
    app.run()
    assert script.orders == [(run, None, True)]
    assert "could not be measured" in _plain(app) and "this one cannot be measured" in _plain(app)


def test_a_measurement_can_be_stopped(store: Any, visit: Callable[..., Any], script: Script, tmp_path: Path) -> None:
    run = add(store, run_config("kd"))
    _kept(tmp_path, run)
    app = visit("speed", runs=run)
    app.button(key="speed_rivals").click().run()
    app.button(key="speed_stop").click().run()
    remeasurer().wait(PATIENCE)
    app.run()
    assert script.ended and "could not be measured" not in _plain(app)
    assert app.button(key="speed_rivals") and "rivals" not in store.probes(run)


def test_without_models_or_teacher_there_is_nothing_to_press(store: Any, visit: Callable[..., Any]) -> None:
    alone, lost = add(store, run_config("fine-tune")), add(store, run_config("kd"))
    app = visit("speed", runs=alone)
    assert "have no teacher, so there are no baselines" in _plain(app) and not app.button
    app = visit("speed", runs=lost)
    assert "No longer on this disk, so without baselines: large" in _plain(app)


def test_read_only_measures_nothing(
    store: Any, visit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add(store, run_config("kd", teachers=[TEACHER]))
    _kept(tmp_path, run)
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app = visit("speed", runs=run)
    assert not app.exception and not app.error
    assert not [button for button in app.button if button.key in ("speed_rivals", "speed_again")]
