"""A run again without one part of it, with one click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.store_factory import add, run_config, words


def _open(app: Any, key: str) -> Any:
    app.session_state[key] = True
    return app.run()


def _buttons(app: Any, key: str) -> dict[str, Any]:
    return {button.label.replace("\\", ""): button for button in app.button if str(button.key).startswith(key)}


def test_compare_queues_the_method_without_a_term_for_every_seed(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "pkd") for seed in range(3)]
    app = visit("compare", runs=",".join(made))
    assert not _buttons(app, "gains_repeat"), "nothing is read before the menu is opened"
    app = _open(app, "gains_repeat")
    buttons = _buttons(app, "gains_repeat")
    assert list(buttons) == [
        "without hard (alpha 0.5 → 1)", "without soft (alpha 0.5 → 0)", "without patience (beta 500 → 0)"
    ]  # fmt: skip
    buttons["without patience (beta 500 → 0)"].click().run()
    assert not app.exception and not app.error
    waiting = store.runs(states=["queued"]).sort_values("seed")
    assert waiting["seed"].tolist() == [0, 1, 2] and set(waiting["method"]) == {"pkd"}
    assert waiting["tags"].tolist() == [["ablation", "without patience"]] * 3
    for run in waiting["id"]:
        config = store.get(run).config
        assert config.options["beta"] == 0.0 and config.options["alpha"] == 0.5
        assert config.teachers == store.get(made[3]).config.teachers
    assert app.query_params["runs"].split(",") == [*made, *waiting.sort_values("position")["id"]]
    assert "3 of these runs are not finished yet" in words(app)


def test_seeds_of_the_store_that_were_not_chosen_join(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("pkd", seed)) for seed in range(3)]
    app = _open(visit("compare", runs=made[1]), "gains_repeat")
    assert "seeds 0, 1, 2" in words(app)
    _buttons(app, "gains_repeat")["without patience (beta 500 → 0)"].click().run()
    assert sorted(store.runs(states=["queued"])["seed"]) == [0, 1, 2]
    assert app.query_params["runs"].split(",")[:3] == [made[1], made[0], made[2]]


def test_compare_draws_what_each_part_brings(store: Any, visit: Callable[..., Any]) -> None:
    whole = {"alpha": 0.5, "temperature": 10.0, "beta": 500.0}
    made = [add(store, run_config("pkd", seed, options=whole), score=0.8 + 0.01 * seed) for seed in range(2)]
    made += [add(store, run_config("pkd", seed, options=whole | {"beta": 0.0}), score=0.7) for seed in range(2)]
    app = visit("compare", runs=",".join(made))
    app.session_state["gains_variants-numbers"] = True
    app.run()
    assert not app.exception and not app.error and "**With one part less**" in words(app)
    (numbers,) = (frame.value for frame in app.dataframe if "whole_value" in frame.value)
    assert numbers["label"].tolist() == ["beta 0"] and numbers["change"].iloc[0] == pytest.approx(-0.105)


def test_the_student_asked_about_is_a_whole_method_first(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("pkd", seed), score=0.7) for seed in range(2)]
    made += [add(store, run_config("pkd", seed, options={"beta": 0.0}), score=0.9) for seed in range(2)]
    for run in made[2:]:
        store.annotate(run, tags=["ablation", "without patience"])
    app = visit("compare", runs=",".join(made))
    box = app.selectbox(key="gains_of")
    assert not app.exception and box.format_func(box.value) == "Patient KD, 2 x 32"
    assert "Patient KD without patience, 2 x 32" in app.dataframe[0].value["method and student"].tolist()


def test_the_run_page_queues_for_all_seeds_of_the_study(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("pkd", seed)) for seed in range(2)]
    add(store, run_config("pkd", 7), end="stopped")
    add(store, run_config("kd", 5))
    app = _open(visit("live", job=made[1]), "live_repeat")
    assert "seeds 0, 1" in words(app)
    _buttons(app, "live_repeat")["without patience (beta 500 → 0)"].click().run()
    assert not app.exception and not app.error
    waiting = store.runs(states=["queued"])
    assert sorted(waiting["seed"]) == [0, 1] and app.query_params["job"] == made[1]
    assert app.query_params["runs"].split(",")[:2] == made and len(app.query_params["runs"].split(",")) == 4
    assert "**2 of 4 done.**" in words(app)
    _buttons(_open(app, "live_repeat"), "live_repeat")["without soft (alpha 0.5 → 0)"].click().run()
    assert "**2 of 6 done.**" in words(app), "the first ones stay"


def test_a_student_that_starts_from_layers_is_repeated_from_random_weights(
    store: Any, visit: Callable[..., Any]
) -> None:
    run = add(store, run_config("kd", student={"layers": 2, "width": 64, "heads": 4, "init": "teacher"}))
    app = _open(visit("live", job=run), "live_repeat")
    _buttons(app, "live_repeat")["from random weights (init teacher → random)"].click().run()
    assert store.get(store.runs(states=["queued"])["id"].iloc[0]).config.student.init == "random"


@pytest.mark.parametrize(("method", "end"), [("fine-tune", "done"), ("pkd", "stopped"), ("pkd", "running")])
def test_only_a_finished_run_that_was_taught_is_repeated(
    method: str, end: str, store: Any, visit: Callable[..., Any]
) -> None:
    app = _open(visit("live", job=add(store, run_config(method), end=end)), "live_repeat")
    assert not app.exception and not _buttons(app, "live_repeat")


def test_read_only_repeats_nothing(store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = add(store, run_config("pkd"))
    monkeypatch.setenv("KD_READ_ONLY", "1")
    for page, key in (("live", "live_repeat"), ("compare", "gains_repeat")):
        app = _open(visit(page, job=run, runs=run), key)
        assert not app.exception and not _buttons(app, key)


def test_a_method_that_is_not_installed_is_said(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("pkd", options={"gamma": 3}))
    app = _open(visit("live", job=run), "live_repeat")
    assert not app.exception and any("What can be left out cannot be listed" in error.value for error in app.error)
