"""Speed shows the searches that are kept: the recommendation with its run, the trials, and what is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kdcore.errors import UserError
from kdcore.search import background, record
from kdcore.search.question import METHODS, Question
from kdcore.search.record import SearchRecord
from pages.parts.speed import search_state
from tests.helpers.store_factory import add, run_config, words

QUESTION = {
    "name": "fast", "run": {"task": "pocket-sentiment"}, "bound": {"p95_ms": 8.0, "runtime": "onnx-int8", "threads": 2},
    "minutes": 5.0, "seeds": 1,
}  # fmt: skip
COSTS = {
    "1 layer": {"parameters": 1000, "disk_mib": 1.0, "p50_ms": 1.0, "p95_ms": 2.0},
    "2 layers": {"parameters": 2000, "disk_mib": 2.0, "p50_ms": 3.0, "p95_ms": 4.0},
    "6 layers": {"parameters": 6000, "disk_mib": 6.0, "p50_ms": 8.0, "p95_ms": 9.0},
}


@pytest.fixture
def kept(store: Any) -> list[str]:
    """A search of two trials; ids of their runs."""
    runs = [add(store, run_config(method)) for method in ("kd", "pkd")]
    trials = [
        {"number": number, "state": "complete", "size": size, "start": "first layers of the teacher", "method": method,
         "options": {"alpha": 0.5} if method == "pkd" else {}, "predicted": 60.0, "reused": False, "run": run}
        for number, (run, size, method) in enumerate(zip(runs, ("2 layers", "1 layer"), ("kd", "pkd"), strict=True))
    ]  # fmt: skip
    made = SearchRecord(
        QUESTION, COSTS, "a processor", 14, False, {"6 layers": "p95_ms"}, {"kd, 9 layers": "*too* deep"}, trials,
        chosen=0, seeds=runs[:1], ended="the time is spent",
    )  # fmt: skip
    record.folder_of("fast").mkdir()
    record.write("fast", made)
    return runs


def test_a_search_is_shown_with_its_recommendation_its_run_and_its_trials(
    kept: list[str], visit: Callable[..., Any]
) -> None:
    app = visit("speed", ssection="Searches")
    text = words(app).replace("\\", "")
    assert not app.exception
    assert "Recommended: kd on 2 layers, first layers of the teacher (p95 latency 4 ms, 8 ms are allowed)" in text
    assert "Never trained, since they exceed the bound: 6 layers" in text and "It ended since the time is spent" in text
    app.toggle(key="speed_search_open").set_value(True).run()
    table = next(frame.value for frame in app.dataframe if "on the front" in frame.value)
    assert sorted(table["run"]) == sorted(kept) and sorted(table["p95 latency (ms)"]) == [2.0, 4.0]


def test_words_of_a_search_are_no_markup(kept: list[str], visit: Callable[..., Any]) -> None:
    assert r"\*too\* deep" in words(visit("speed", ssection="Searches"))


def test_a_damaged_search_is_a_card_and_the_rest_is_drawn(kept: list[str], visit: Callable[..., Any]) -> None:
    (record.folder_of("fast") / record.FILE).write_text("{")
    app = visit("speed", ssection="Searches")
    assert not app.exception and any("This search cannot be shown" in error.value for error in app.error)
    assert "student" in words(app)


def test_without_a_search_the_page_says_how_to_make_one(store: Any, visit: Callable[..., Any]) -> None:
    add(store, run_config("kd"))
    assert "kdcore search" in words(visit("speed", ssection="Searches"))


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """Searches that were started, of which none is."""
    asked: list[Question] = []
    monkeypatch.setattr(background, "start", asked.append)
    return asked


def test_a_search_is_asked_for_with_a_form(store: Any, visit: Callable[..., Any], begun: list[Question]) -> None:
    run = add(store, run_config("kd"))
    app = visit("speed", ssection="Searches")
    app.text_input(key="speed_ns_name").set_value("Not A Name")
    app.number_input(key="speed_ns_most").set_value(8.0)
    _press(app, "Start the search")
    assert not begun and any("cannot be started" in error.value for error in app.error)
    app.text_input(key="speed_ns_name").set_value("fast")
    _press(app, "Start the search")
    (question,) = begun
    settings = store.get(run).config
    assert question.run["task"] == settings.task and question.run["teachers"][0]["name"] == "large"
    assert not {"method", "student", "options", "name"} & set(question.run)
    assert question.bound.p95_ms == 8 and question.bound.share == 0.97 and question.bound.runtime == "onnx-int8"
    assert (question.name, question.minutes, question.seeds, question.methods) == ("fast", 60, 3, METHODS)


def _press(app: Any, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()


def test_a_search_that_was_stopped_can_go_on(kept: list[str], visit: Callable[..., Any], begun: list[Question]) -> None:
    assert "Continue the search" not in [button.label for button in visit("speed", ssection="Searches").button]
    record.write("fast", replace(record.read("fast"), ended=""))
    _press(visit("speed", ssection="Searches"), "Continue the search")
    assert [question.name for question in begun] == ["fast"]


def test_a_search_under_way_says_how_it_stands_and_can_be_stopped(
    kept: list[str], visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []
    state = background.State(True, "*kd* on 2 layers", False)
    monkeypatch.setattr(background, "state", lambda name: state)
    monkeypatch.setattr(background, "stop", stopped.append)
    app = visit("speed", ssection="Searches")
    assert r"Under way: \*kd\* on 2 layers" in words(app)
    app.button(key="speed_search_stop").click().run()
    assert stopped == ["fast"]


def test_an_error_of_a_search_is_shown(
    kept: list[str], visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "state", lambda name: background.State(False, "bound: nothing keeps to it", True))
    assert any("It ended with an error" in error.value for error in visit("speed", ssection="Searches").error)


def test_a_read_only_page_starts_no_search(
    kept: list[str], visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, begun: list[Question]
) -> None:
    record.write("fast", replace(record.read("fast"), ended=""))
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app = visit("speed", ssection="Searches")
    labels = [button.label for button in app.button]
    assert not {"Start the search", "Continue the search"} & set(labels) and not app.exception
    with pytest.raises(UserError, match="read-only"):
        search_state.begin("fast")
    assert not begun
