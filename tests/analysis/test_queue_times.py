"""When a waiting run starts: worked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kdcore.analysis.queue_times import queue_turns, turns
from tests.helpers.store_factory import add, run_config

DAY = {"predicted": {"seconds": 40.0, "basis": "a forecast"}}


def test_one_after_the_other(store: Any) -> None:
    """12.5 s is what each finished run of the factory took; one run has a forecast of its own."""
    add(store, run_config("kd"))
    running = add(store, run_config("kd", 1), end="running")
    first = store.add_run(run_config("kd", 2))
    second = store.add_run(run_config("pkd", 0), facts=DAY)
    third = store.add_run(run_config("pkd", 1))
    found = queue_turns(store)
    assert list(found) == [running, first, second, third]
    left = found[running].takes
    assert left == store.runs(states=["running"])["eta_s"].iloc[0]
    assert found[first].starts == left and found[first].takes == 12.5
    assert found[second].starts == left + 12.5 and found[second].takes == 40.0
    assert found[third].starts == pytest.approx(left + 52.5), "another method under the same protocol tells"
    assert found[third].takes == 12.5


def test_what_nothing_tells_is_not_known(store: Any) -> None:
    first = store.add_run(run_config("kd"))
    second = store.add_run(run_config("kd", 1), facts=DAY)
    found = queue_turns(store)
    assert found[first].starts == 0 and math.isnan(found[first].takes)
    assert math.isnan(found[second].starts) and found[second].takes == 40.0


def test_the_order_of_the_queue_counts(store: Any) -> None:
    first, second = store.add_run(run_config("kd"), facts=DAY), store.add_run(run_config("kd", 1), facts=DAY)
    store.move(second, -1)
    found = queue_turns(store)
    assert list(found) == [second, first] and found[first].starts == 40.0


def test_an_empty_queue_has_no_turns(store: Any) -> None:
    add(store, run_config("kd"))
    assert queue_turns(store) == {}
    done = store.runs()
    assert turns(done[:0], done, {}) == {}


@pytest.mark.parametrize("forecast", [None, "soon", {"seconds": "many"}, {"seconds": -1.0}, {}])
def test_a_damaged_forecast_is_none(forecast: Any, store: Any) -> None:
    run = store.add_run(run_config("kd"), facts={"predicted": forecast})
    assert math.isnan(queue_turns(store)[run].takes)
