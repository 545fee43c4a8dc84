"""The latency in the list of runs is the one that the page Speed has."""

from __future__ import annotations

from typing import Any

import pytest

from kdcore.analysis import cost_points
from kdcore.analysis.comparison import compare
from kdcore.analysis.cost_table import cost_table
from kdcore.analysis.latency import latencies
from kdcore.analysis.score_numbers import score_numbers
from kdcore.events import Probed
from kdcore.store import Store
from tests.helpers.store_factory import add, run_config


def _timed(store: Store, run: str, factor: float = 1.0, **changes: Any) -> None:
    records = store.probes(run)["latency"]["records"]
    scaled = [record | {"median_ms": factor * record["median_ms"]} | changes for record in records]
    store.record(run, [Probed("latency", 60, {"records": scaled})])


def test_it_is_what_speed_says_with_slow_sessions_taken_out(store: Store) -> None:
    runs = [add(store, run_config("kd", seed)) for seed in range(3)]
    add(store, run_config("kd", 7), end="queued")
    _timed(store, runs[1], 4.0)
    found = latencies(store, store.runs())
    assert found["latency_ms"].to_dict() == {run: pytest.approx(0.7) for run in runs}, "the teacher was slowed, too"
    frame = store.runs()
    table = cost_table(store, frame[frame["state"] == "done"].assign(label="x"))
    here = table[(table["axis"] == "latency-1") & (table["length"] == "32 tokens")]
    price = cost_points.prices(here)["cost"]
    assert price[runs].to_dict() == found["latency_ms"][runs].to_dict()


def test_what_was_timed_on_a_busy_machine_only_is_marked(store: Store) -> None:
    quiet, loud = add(store, run_config("kd")), add(store, run_config("pkd"))
    _timed(store, loud, busy=True)
    assert latencies(store, store.runs())["busy"].to_dict() == {quiet: False, loud: True}


def test_a_comparison_has_no_time_that_a_busy_machine_took(store: Store) -> None:
    add(store, run_config("kd"))
    _timed(store, add(store, run_config("pkd")), busy=True)
    (comparison,) = compare(store, store.runs())
    times = score_numbers(store, comparison).set_index("method and student")["latency"]
    quiet = times.index.str.startswith("KD")
    assert quiet.sum() == 1 and len(times) == 2
    assert times[quiet].item() == pytest.approx(0.7) and times[~quiet].isna().all()


def test_nothing_timed_is_an_empty_table(store: Store) -> None:
    assert latencies(store, store.runs()).empty
