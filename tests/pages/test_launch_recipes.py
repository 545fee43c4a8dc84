"""Launch: a paper's recipe fills the form, says what it is, and gives way to a person; and what is measured beside."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from kdcore.config import RunConfig
from kdcore.engine.preflight import Report
from kdcore.runs.recipes import find_preset
from pages.parts.common import cached
from pages.parts.launch import recipe
from tests.helpers.store_factory import add, run_config, words


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks and forecast without reading any model."""
    guess: Any = SimpleNamespace(
        seconds=61.0, teacher_seconds=9.0, memory_bytes=3e8, disk_bytes=1e6, steps=700, basis="one layer timed"
    )
    monkeypatch.setattr(cached, "preflight", lambda settings: Report((), guess))


@pytest.fixture
def form(visit: Callable[..., Any]) -> Any:
    """The form for PKD on MRPC."""
    app = visit("launch")
    app.selectbox(key="launch.task").set_value("mrpc").run()
    app.selectbox(key="launch.method").set_value("pkd").run()
    return app


def said(app: Any) -> str:
    return words(app).replace("\\", "")


def number(app: Any, name: str) -> Any:
    return app.number_input(key=f"launch.{name}").value


def choose(app: Any, key: str) -> Any:
    app.selectbox(key="launch.recipe").set_value(key).run()
    assert not app.exception
    return app


def test_no_recipe_comes_first(form: Any) -> None:
    box = form.selectbox(key="launch.recipe")
    assert box.value == "" and box.options == [
        "No paper's recipe",
        "Patient KD, 6 layers",
        "Patient KD, 3 layers",
    ]
    assert "Unverified" not in said(form) and number(form, "train.epochs") == 3.0


def test_a_recipe_fills_the_form_and_says_what_it_is(form: Any) -> None:
    form.number_input(key="launch.train.weight_decay").set_value(0.3).run()
    choose(form, "pkd")
    assert number(form, "options.pkd.alpha") == 0.5385 and number(form, "options.pkd.beta") == 769.2
    assert (number(form, "train.epochs"), number(form, "train.lr")) == (4.0, 1e-5)
    assert number(form, "train.weight_decay") == 0.01
    assert form.selectbox(key="launch.preset").value == "by hand" and number(form, "student.layers") == 6
    assert form.selectbox(key="launch.student.init").value == "base"
    one = find_preset("pkd")
    assert "alpha 0.5385, temperature 10" in said(form) and "epochs 4" in said(form)
    assert one.source[:60] in said(form) and one.unverified[0] in said(form) and one.departs[0] in said(form)
    assert "Changed by hand" not in said(form)


def test_fields_can_be_changed_afterwards_and_the_page_says_which(form: Any, store: Any) -> None:
    choose(form, "pkd")
    form.number_input(key="launch.train.epochs").set_value(1.0).run()
    form.number_input(key="launch.options.pkd.beta").set_value(5.0).run()
    assert "**Changed by hand since**: beta, epochs." in said(form)
    form.button(key="launch_go").click().run()
    run = store.get(store.runs()["id"].iloc[0]).config
    assert (run.train.epochs, run.train.lr, run.options["beta"]) == (1.0, 1e-5, 5.0)
    assert run.student.layers == 6 and run.student.init == "base"


def test_back_to_the_defaults_nothing_of_the_recipe_stays(form: Any) -> None:
    before = {name: number(form, name) for name in ("train.epochs", "train.lr", "train.clip", "options.pkd.beta")}
    choose(form, "pkd")
    choose(form, "")
    assert {name: number(form, name) for name in before} == before
    assert form.selectbox(key="launch.preset").value == "three-layers" and "Unverified" not in said(form)


def test_another_method_ends_the_recipe(form: Any) -> None:
    choose(form, "pkd")
    form.selectbox(key="launch.method").set_value("kd").run()
    assert form.selectbox(key="launch.recipe").value == "" and number(form, "train.epochs") == 3.0
    form.selectbox(key="launch.method").set_value("pkd").run()
    assert form.selectbox(key="launch.recipe").value == "" and number(form, "options.pkd.beta") == 500.0


def test_another_method_leaves_what_was_typed_without_a_recipe(form: Any) -> None:
    form.number_input(key="launch.train.epochs").set_value(7.0).run()
    form.selectbox(key="launch.method").set_value("kd").run()
    assert number(form, "train.epochs") == 7.0


def test_a_recipe_follows_the_task(form: Any) -> None:
    form.selectbox(key="launch.method").set_value("mlkd").run()
    choose(form, "mlkd-4")
    assert number(form, "train.epochs") == 35.0 and number(form, "student.width") == 312
    form.selectbox(key="launch.task").set_value("cola").run()
    assert number(form, "train.epochs") == 80.0 and number(form, "train.max_length") == 64
    assert form.selectbox(key="launch.recipe").value == "mlkd-4"
    form.selectbox(key="launch.task").set_value("mrpc").run()
    assert number(form, "train.epochs") == 35.0 and number(form, "train.max_length") == 128


def test_on_a_pocket_task_it_says_that_the_recipe_is_for_another_world(form: Any) -> None:
    choose(form, "pkd")
    assert "pocket teacher" not in said(form)
    form.selectbox(key="launch.task").set_value("pocket-sentiment").run()
    assert "A pocket teacher has no pretrained base" in said(form)


@pytest.mark.parametrize("method", ["fine-tune", "takd", "wkd"])
def test_a_method_without_one_says_so(form: Any, method: str) -> None:
    form.selectbox(key="launch.method").set_value(method).run()
    box = form.selectbox(key="launch.recipe")
    assert box.disabled and "No recipe" in box.help


def test_a_list_of_layers_stays_a_list(form: Any) -> None:
    form.selectbox(key="launch.method").set_value("distilbert").run()
    choose(form, "distilbert")
    assert "Changed by hand" not in said(form)
    run = RunConfig.model_validate(yaml.safe_load(next(code.value for code in form.code if "student:" in code.value)))
    assert run.student.init_layers == (1, 3, 5, 8, 10, 12) and run.train.epochs == 3.0


def test_changed_names_the_fields_that_differ() -> None:
    asked = {"options": {"beta": 7.0}, "student": {"init_layers": [1, 3]}, "train": {"lr": 1e-5}}
    held = {"options": {"beta": 7.0}, "student": {"init_layers": (1, 3), "layers": 2}, "train": {"lr": 1e-5, "seed": 3}}
    assert recipe.changed_fields(asked, held) == []
    held["train"] = {"lr": 2e-5}
    held["student"] = {}
    assert recipe.changed_fields(asked, held) == ["init_layers", "lr"]


# --- what is measured beside the score


def test_gradient_shares_can_be_asked_for(form: Any, store: Any) -> None:
    box = form.number_input(key="launch.probes.gradient_share_every")
    assert box.value == 0 and "one more backward pass a term" in box.help and "log_every" in box.help
    box.set_value(40).run()
    form.toggle(key="launch.probes.latency").set_value(False).run()
    form.button(key="launch_go").click().run()
    probes = store.get(store.runs()["id"].iloc[0]).config.probes
    assert probes.gradient_share_every == 40 and not probes.latency and probes.fidelity


def test_gradient_shares_are_sampled_where_the_student_is_tiny(form: Any) -> None:
    form.selectbox(key="launch.task").set_value("pocket-sentiment").run()
    assert number(form, "probes.gradient_share_every") == 20
    form.selectbox(key="launch.task").set_value("mrpc").run()
    assert number(form, "probes.gradient_share_every") == 0


def test_a_clone_brings_its_probes_and_no_recipe(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("pkd", probes={"gradient_share_every": 30, "distances": False}), end="queued")
    app = choose(visit("launch", clone=run), "")
    assert number(app, "probes.gradient_share_every") == 30 and not app.toggle(key="launch.probes.distances").value


def options(form: Any, key: str) -> list[str]:
    """The labels of a list box."""
    return list(form.selectbox(key=key).options)


def test_a_family_narrows_the_methods_and_chooses_its_first(form: Any) -> None:
    everything = options(form, "launch.method")
    assert len(everything) > 10 and options(form, "launch.family")[0] == "All"
    form.selectbox(key="launch.family").set_value("relation").run()
    assert form.selectbox(key="launch.method").value == "minilm"
    narrow = options(form, "launch.method")
    assert len(narrow) == 3 and narrow[0] == "MiniLM · Wang et al. 2020"
    form.selectbox(key="launch.family").set_value("all").run()
    assert form.selectbox(key="launch.method").value == "minilm" and options(form, "launch.method") == everything
    assert not form.exception


def test_another_family_ends_the_recipe(form: Any) -> None:
    choose(form, "pkd")
    form.selectbox(key="launch.family").set_value("hidden").run()
    assert form.selectbox(key="launch.recipe").value == "pkd", "its method is of this family"
    form.selectbox(key="launch.family").set_value("attention").run()
    assert form.selectbox(key="launch.method").value == "tinybert"
    assert form.selectbox(key="launch.recipe").value == "" and number(form, "train.epochs") == 3.0


def test_a_method_of_several_teachers_gets_those_that_it_lacks(form: Any) -> None:
    form.selectbox(key="launch.task").set_value("pocket-sentiment").run()
    form.selectbox(key="launch.method").set_value("kd").run()
    assert len(form.multiselect(key="launch.teachers").value) == 1
    form.selectbox(key="launch.method").set_value("dynamic-kd").run()
    box = form.multiselect(key="launch.teachers")
    assert len(box.value) == 2 and box.label == "Teachers (2 to 12 teachers)"
    box.set_value(box.value[1:]).run()
    assert len(form.multiselect(key="launch.teachers").value) == 1, "what a person takes out stays out"
    form.selectbox(key="launch.options.dynamic-kd.part").set_value("rows").run()
    assert form.multiselect(key="launch.teachers").label == "Teachers (one teacher)"
    form.selectbox(key="launch.options.dynamic-kd.part").set_value("teachers").run()
    form.selectbox(key="launch.options.dynamic-kd.adoption").set_value("soft").run()
    assert form.multiselect(key="launch.teachers").label == "Teachers (2 teachers)"
