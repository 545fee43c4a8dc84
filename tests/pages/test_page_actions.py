"""What the pages do: queue, clone, stop, cancel, compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest

from kdcore.runs import example
from tests.helpers.store_factory import add, fill, run_config, words


def test_live_writes_the_loss_as_an_equation_with_its_numbers(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    app = visit("live", job=run)
    formula = app.get("latex")[0].value if app.get("latex") else words(app)
    assert r"\text{hard}" in formula and r"\text{soft}" in formula and "0.5" in formula
    metrics = store.metrics([run])
    total = metrics[(metrics["kind"] == "loss") & (metrics["step"] == 60)]["value"].iloc[0]
    assert f"{total:.4g}" in formula


def test_live_follows_the_address_and_keeps_it(store: Any, visit: Callable[..., Any]) -> None:
    made = fill(store, seeds=1)
    app = visit("live", job=made[1])
    assert app.selectbox(key="live_run").value == made[1]
    assert app.query_params["job"] == made[1]
    app.selectbox(key="live_run").set_value(made[2]).run()
    assert app.query_params["job"] == made[2]


def test_a_failed_run_says_why_and_what_to_do(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"), end="failed")
    said = words(visit("live", job=run)).replace("\\", "")
    assert "The loss is not a number" in said and "Lower train.lr and resume" in said and "last line" in said


def test_stopping_is_asked_for_once_and_discarded_on_the_second_click(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"), end="running")
    app = visit("live", job=run)
    app.button(key="live_stop").click().run()
    assert store.stop_requested(run) == "keep"
    app.button(key="live_discard").click().run()
    assert store.stop_requested(run) == "discard"
    assert "not kept" in words(app)


def test_the_queue_is_moved_and_cancelled(store: Any, visit: Callable[..., Any]) -> None:
    first, second = (store.add_run(run_config("kd", seed)) for seed in (0, 1))
    app = visit("live")
    app.button(key=f"up_{second}").click().run()
    queued = store.runs(states=["queued"]).sort_values("position")["id"].tolist()
    assert queued == [second, first]
    app.button(key=f"cancel_{second}").click().run()
    assert store.get(second).state == "cancelled"


def test_launch_queues_what_the_form_says(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    _ready_engine(monkeypatch)
    app = visit("launch")
    app.selectbox(key="launch.method").set_value("pkd").run()
    app.number_input(key="launch.options.pkd.temperature").set_value(3.0).run()
    app.number_input(key="launch.train.epochs").set_value(2.0).run()
    app.text_input(key="launch.name").set_value("by test").run()
    app.number_input(key="launch.seeds").set_value(2).run()
    assert not app.exception
    app.button(key="launch_go").click().run()
    runs = store.runs()
    assert sorted(runs["name"]) == ["by test seed 0", "by test seed 1"]
    run = store.get(runs["id"].iloc[0]).config
    assert run.method == "pkd" and run.options["temperature"] == 3.0 and run.train.epochs == 2.0
    assert [teacher.name for teacher in run.teachers] == ["large"]


def test_launch_shows_sizes_and_the_layer_map(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    _ready_engine(monkeypatch)
    app = visit("launch")
    app.selectbox(key="launch.method").set_value("pkd").run()
    app.selectbox(key="launch.preset").set_value("two-layers").run()
    said = words(app)
    assert "Student layer ← teacher layer: 1 ← 2" in said
    sizes = app.dataframe[0].value
    assert list(sizes.columns) == ["student", "large"]
    assert [metric.label for metric in app.metric][:3] == ["Time", "Memory", "Steps"]


@pytest.mark.parametrize(("method", "drawn"), [("pkd", (2, 4)), ("pea-kd", (4, 4)), ("kd", None)])
def test_launch_draws_the_layer_map_of_the_model_that_runs(
    store: Any, visit: Callable[..., Any], monkeypatch: Any, method: str, drawn: tuple[int, int] | None
) -> None:
    from pages.parts.launch import preview

    _ready_engine(monkeypatch)
    asked, real = [], preview.map_figure
    monkeypatch.setattr(preview, "map_figure", lambda *sizes: asked.append(sizes) or real(*sizes))
    app = visit("launch")
    app.selectbox(key="launch.method").set_value(method).run()
    app.selectbox(key="launch.preset").set_value("two-layers").run()
    assert not app.exception and not app.error
    assert (asked[-1][:2] if drawn else None) == drawn


def test_one_change_in_launch_loads_resolves_and_predicts_once(
    store: Any, visit: Callable[..., Any], monkeypatch: Any
) -> None:
    import streamlit as st

    from kdcore.data import pocket
    from kdcore.engine import plan, preflight

    calls: list[str] = []
    for module, name in ((pocket, "load"), (plan, "resolve"), (preflight, "predict")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    st.cache_data.clear()
    st.cache_resource.clear()
    app = visit("launch")
    assert sorted(calls) == ["load", "predict", "resolve"] and not app.button(key="launch_go").disabled
    calls.clear()
    app.number_input(key="launch.train.epochs").set_value(2.0).run()
    assert sorted(calls) == ["predict", "resolve"], "the rows are still there"


def test_a_blocking_line_keeps_the_button_closed(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    _ready_engine(monkeypatch, level="block")
    app = visit("launch")
    assert app.button(key="launch_go").disabled
    assert "Fix the errors above to enable Start." in words(app)
    assert "no such teacher" in words(app).lower()


def test_a_wrong_field_is_named(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    _ready_engine(monkeypatch)
    app = visit("launch")
    app.selectbox(key="launch.preset").set_value("by hand").run()
    app.number_input(key="launch.student.width").set_value(30).run()
    app.number_input(key="launch.student.heads").set_value(4).run()
    assert not app.exception
    assert any("student" in error.value and "not divisible" in error.value for error in app.error)


def test_a_clone_fills_the_form(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    _ready_engine(monkeypatch)
    settings = {"options": {"alpha": 0.25, "temperature": 4.0}, "train": {"lr": 0.002, "seed": 7, "early_stop": 3}}
    hand = {"name": "mine", "source": "folder", "where": "/models/mine"}
    run = add(
        store, run_config("kd", teachers=[hand, {"name": "large", "source": "pocket", "where": "large"}], **settings)
    )
    app = visit("launch", clone=run)
    assert not app.exception
    assert app.number_input(key="launch.options.kd.alpha").value == 0.25
    assert app.number_input(key="launch.train.lr").value == 0.002
    assert app.number_input(key="launch.train.early_stop").value == 3
    assert app.multiselect(key="launch.teachers").value == ["large"]
    assert "/models/mine" in words(app).replace("\\", "")
    assert "clone" not in app.query_params
    app.button(key="launch_go").click().run()
    again = store.get(store.runs()["id"].iloc[0]).config
    assert again.train == store.get(run).config.train
    assert again.student == store.get(run).config.student
    assert {teacher.name for teacher in again.teachers} == {"mine", "large"}


def test_compare_groups_seeds_and_reproduces_its_address(store: Any, visit: Callable[..., Any]) -> None:
    made = fill(store, seeds=3)
    app = visit("compare", runs=",".join(made[:6]), what="Loss (weighted sum)", sm="0.5", logy="true")
    assert not app.exception
    assert app.selectbox(key="what").value == "loss" and app.slider(key="sm").value == 0.5
    assert app.toggle(key="logy").value is True
    assert app.multiselect(key="compare_runs").value == made[:6]
    table = visit("compare", runs=",".join(made[:6])).dataframe[0].value
    assert table["method and student"].tolist() == ["Fine-tuning alone, 2 x 32", "KD, 2 x 32"], "the baseline first"
    assert all("(N=3)" in score for score in table["dev score"])
    assert table["Δ to baseline"].tolist()[0] == "baseline"


def test_two_tasks_are_compared_one_at_a_time(store: Any, visit: Callable[..., Any]) -> None:
    one, other = add(store, run_config("kd")), add(store, run_config("kd", task="pocket-entailment"))
    app = visit("compare", runs=f"{one},{other}")
    assert not app.exception
    app.selectbox(key="ctask").set_value("pocket-sentiment").run()
    assert len(app.dataframe[0].value) == 1


def test_speed_says_what_is_not_drawn(store: Any, visit: Callable[..., Any]) -> None:
    made = fill(store, seeds=3)
    app = visit("speed", runs=",".join(made))
    assert not app.exception
    assert "Test CPU (2 cores)" in app.selectbox(key="son").value
    assert not app.error


@pytest.mark.parametrize(
    ("method", "sentence"), [("fine-tune", "no teacher"), ("kd", "reads the teacher's answers alone")]
)
def test_layers_explains_what_there_is(method: str, sentence: str, store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config(method))
    app = visit("layers", job=run)
    assert not app.exception and sentence in words(app)


def test_attention_without_a_student_says_so(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("attention", job=add(store, run_config("kd")))
    assert not app.exception and "did not keep a student" in words(app)


@pytest.mark.parametrize("page", ["attention", "examples"])
def test_run_that_was_trained_elsewhere_is_not_said_to_lack_a_student(
    page: str, store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its folder is where computers without a common disk share theirs."""
    monkeypatch.setenv("KD_REMOTE", f"file://{tmp_path / 'place'}")
    run = add(store, run_config("kd"))
    app = visit(page, job=run)
    assert not app.exception and f"kdcore cache pull {run}" in words(app).replace("\\", "")


def test_start_opens_the_example_and_remembers_that_it_is_there(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("start")
    app.button(key="start_example").click().run()
    assert example.example_runs(store) and not store.runs(states=["queued"]).size
    again = visit("start")
    assert "start_example" not in {button.key for button in again.button}
    link = next(link.proto for link in again.get("page_link") if link.proto.label == "Open the example")
    assert parse_qs(link.query_string)["runs"] == [",".join(example.example_runs(store))]


def test_start_queues_the_demo(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    import sys
    import types

    demo = types.ModuleType("kdcore.runs.demo")
    demo.demo_runs = lambda *_: [run_config("fine-tune"), run_config("kd")]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kdcore.runs.demo", demo)
    app = visit("start")
    app.button(key="start_demo").click().run()
    assert not app.exception
    assert sorted(store.runs(states=["queued"])["method"]) == ["fine-tune", "kd"]


def _ready_engine(monkeypatch: Any, level: str = "ok") -> None:
    """Checks and forecast without reading any model."""
    from kdcore.engine.preflight import Line, Report
    from pages.parts.common import cached

    line = Line(level, "teachers", "no such teacher", "choose one")
    guess: Any = SimpleNamespace(
        seconds=61.0, teacher_seconds=9.0, memory_bytes=3e8, disk_bytes=1e6, steps=700, basis="one layer timed"
    )
    monkeypatch.setattr(cached, "preflight", lambda settings: Report((line,), guess))


def test_live_shows_draws_gradients_and_how_the_prediction_held(store: Any, visit: Callable[..., Any]) -> None:
    from kdcore.events import RunFinished, StepDone

    run = store.add_run(run_config("skd"), facts={"predicted": {"seconds": 100.0, "basis": "a test"}})
    store.claim("written", "cpu", run)
    raw = {"hard": 0.4, "soft": 2.0}
    notes = {"draws/large": 0.75, "draws/small": 0.25, "chance/large": 0.5, "chance/small": 0.5, "pilot/large": 0.8}
    steps = [
        StepDone("distil", step, 20, 1.0, 1.2, raw, {"hard": 0.2, "soft": 1.0}, 1e-3, 900.0, 1.0, 1.0,
                 {"hard": 0.25, "soft": 0.75} if step == 10 else {}, notes)
        for step in (10, 20)
    ]  # fmt: skip
    store.record(run, steps)
    assert "Predicted before the start: 1 min 40 s." in words(visit("live", job=run))
    store.record(run, [RunFinished({"seconds": 150.0})])
    app = visit("live", job=run)
    said = words(app)
    assert not app.exception and not app.error
    assert "took 2 min 30 s (50% longer)" in said
    assert "Teacher draws" in said and "Gradients sampled at step 10" in said and "Pilot: large 0.8" in said
    terms = app.dataframe[0].value.set_index("term")
    assert terms.loc["soft", "gradient"] == 0.75 and terms.loc["soft", "share"] == pytest.approx(1.0 / 1.2)


def test_live_writes_the_equation_of_the_present_stage(store: Any, visit: Callable[..., Any]) -> None:
    from kdcore.events import StepDone

    run = store.add_run(run_config("kd"))
    store.claim("written", "cpu", run)
    rest = (1e-3, 900.0, 1.0, 1.0)
    store.record(
        run,
        [
            StepDone("layers", 1, 4, 0.5, 3.0, {"hidden": 3.0}, {"hidden": 3.0}, *rest),
            StepDone("distil", 3, 4, 1.0, 0.5, {"soft": 0.5}, {"soft": 0.5}, *rest),
        ],
    )
    app = visit("live", job=run)
    formula = app.get("latex")[0].value
    assert r"\text{soft}" in formula and "hidden" not in formula
    assert "of stage distil" in words(app)


def test_a_layer_pair_is_opened_by_address(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    app = visit("layers", job=run, slayer="1", tlayer="2")
    assert not app.exception
    assert "Student layer 1 ↔ teacher layer 2" in words(app)
    assert [metric.label for metric in app.metric] == ["CKA"] and app.metric[0].value == "1.000"
    assert "nearest of 5 teacher layers" in app.metric[0].delta
    app = visit("layers", job=run, slayer="99", tlayer="x")
    assert not app.exception and "Student layer 2 ↔" in words(app)
