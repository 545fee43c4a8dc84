"""Speed shows the searches that are kept: the recommendation with its run, the trials, and what is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdcore.search import record
from kdcore.search.record import SearchRecord
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
