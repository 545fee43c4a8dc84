"""Which runs are timed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kdcore.paths import run_dir
from kdcore.runs.remeasure import timing_orders


def _readings(run: str, size: str, *axes: str, busy: bool = False) -> list[dict[str, Any]]:
    about = {"run": run, "task": "mrpc", "kind": "student", "size": size, "busy": busy}
    return [about | {"axis": axis} for axis in ("parameters", *axes)]


def _orders(*readings: list[dict[str, Any]]) -> tuple[list[str], bool]:
    costs = pd.DataFrame([row for of_run in readings for row in of_run])
    ids = list(dict.fromkeys(costs["run"]))
    for run in ids:
        (run_dir(run) / "student-best").mkdir(parents=True, exist_ok=True)
    runs = pd.DataFrame({"id": ids, "name": ids, "task": "mrpc", "teachers": ""})
    orders, untimed = timing_orders(runs, costs)
    return [order.run for order in orders], untimed


def test_sizes_without_a_quiet_time_or_a_count_of_memory_come_first(own_cache: Path) -> None:
    whole = _readings("a", "s", "latency-1", "memory-1")
    loud = _readings("b", "t", "latency-1", "memory-1", busy=True)
    older = _readings("c", "u", "latency-1")
    assert _orders(whole, loud, older) == (["b", "c"], True)


@pytest.mark.parametrize("other", ["s", "t"])
def test_where_all_are_known_every_size_is_timed_once_more(own_cache: Path, other: str) -> None:
    found, untimed = _orders(
        _readings("a", "s", "latency-1", "memory-1"), _readings("b", other, "latency-1", "memory-1")
    )
    assert (found, untimed) == (["a"] if other == "s" else ["a", "b"], False)
