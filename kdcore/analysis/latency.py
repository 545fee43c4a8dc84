"""The latency of each run's student, as the page Speed has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdcore.analysis.cost_points import prices
from kdcore.analysis.cost_table import COLUMNS, student_size, teacher_label, timed, timings
from kdcore.store import Store

AXIS = "latency-1"


def latencies(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """Run -> latency_ms (one row, median) and busy, for the finished runs that were timed.

    Runs of one size, in one place and at one length, are repeats of one measurement and share its median, see
    `cost_points.prices`. Of a run that was timed in several places the newest counts.

    Args:
        runs: rows of `Store.runs`.
    """
    done = runs[runs["state"] == "done"]
    ids = list(done["id"])
    probes, rows_of = store.probes_of(ids, ("latency",)), store.rows(ids)
    rows: list[dict[str, Any]] = []
    for run, task in zip(ids, done["task"], strict=True):
        rows += _of_run(run, str(task), probes.get(run, {}), rows_of[run].facts)
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "quality"])
    found = []
    for _, here in table[table["axis"] == AXIS].groupby(["task", "place", "length"], sort=False):
        students = here[here["kind"] == "student"]
        found.append(students[["run", "size"]].join(prices(here), on="size"))
    if not found:
        return pd.DataFrame({"latency_ms": [], "busy": []})
    newest = pd.concat(found).sort_index().drop_duplicates("run").set_index("run")
    return newest.rename(columns={"cost": "latency_ms"})[["latency_ms", "busy"]]


def quiet_latencies(store: Store, runs: pd.DataFrame) -> pd.Series:
    """Run -> latency_ms of `latencies`, for the runs that were not timed on a busy machine."""
    found = latencies(store, runs)
    quiet: pd.Series = found.loc[~found["busy"].astype(bool), "latency_ms"]
    return quiet


def group_latencies(store: Store, runs: pd.DataFrame) -> pd.Series:
    """Group -> the median of its runs' `quiet_latencies`; NaN where none was timed on a quiet machine.

    Args:
        runs: with the column group, as in `Comparison.finished`.
    """
    each = runs["id"].map(quiet_latencies(store, runs))
    medians: pd.Series = each.groupby(runs["group"]).median()
    return medians


def _of_run(run: str, task: str, probes: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The readings of a run's student and teachers."""
    records = timings(probes, "latency")
    student = {"run": run, "task": task, "kind": "student", "label": run, "size": student_size(run, facts)}
    rows = list(timed(student, records, "student"))
    for name in dict.fromkeys(str(record.get("name")) for record in records if record.get("name") != "student"):
        label = teacher_label(name)
        rows += timed({"run": run, "task": task, "kind": "teacher", "label": label, "size": label}, records, name)
    return rows
