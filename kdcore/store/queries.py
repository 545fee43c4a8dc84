"""Rows -> the DataFrames that pages draw. One query each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Select, select

from kdcore.store.run_row import (
    LOST,
    method_origin,
    read_config,
    run_content,
    run_environment,
    run_keys,
    tag_list,
    task_key,
)
from kdcore.store.tables import evaluations, metrics, runs

if TYPE_CHECKING:
    import pandas as pd

_TIMES = ("created", "started", "finished", "lease_until")
_NUMBERS = ("score", "select_score", "last_score", "seconds", "latency_ms", "parameters")
_PROGRESS = ("step", "steps", "eta_s")
RUN_COLUMNS = (
    "id", "name", "state", "task", "method", "options", "student", "teachers", "init", "seed", "metric", "score",
    "select_score", "last_score", "seconds", "latency_ms", "parameters", "step", "steps", "progress", "what", "eta_s",
    "created", "started", "finished", "device", "node", "position", "reason", "remedy", "note", "tags", "archived",
    "parent", "sweep",
    "protocol", "group", "version", "machine", "rows", "models", "config_hash", "worker", "lease_until",
    "method_origin",
)  # fmt: skip
METRIC_COLUMNS = ("run", "stage", "step", "epoch", "seconds", "kind", "name", "value")
EVALUATION_COLUMNS = ("run", "stage", "step", "split", "which", "metric", "value", "rows")


class Point(NamedTuple):
    """One logged value."""

    stage: str
    step: int
    kind: str
    name: str
    value: float | None


def runs_frame(connection: Connection, query: Select[Any]) -> pd.DataFrame:
    """One row per run; damaged rows stay in the list, with the reason."""
    records = [_list_row(row) for row in connection.execute(query)]
    return _as_frame(records) if records else _no_runs().copy()


@cache
def _no_runs() -> pd.DataFrame:
    """The list without a run, which each drawing of a page asks for where nothing trains."""
    return _as_frame([])


def _as_frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(records, columns=list(RUN_COLUMNS))
    for column in (*_NUMBERS, *_PROGRESS, "progress", "seed", "position"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    for column in _TIMES:
        seconds = pd.to_numeric(frame[column], errors="coerce")
        frame[column] = pd.to_datetime(seconds, unit="s", utc=True, errors="coerce")
    return _set_apart(frame)


def _set_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Groups whose runs saw other rows or other weights under one name become several.

    A run that has not said what it saw belongs to the others of its settings where those agree.
    """
    seen = frame["rows"] + frame["models"]
    known = frame[seen != ""].assign(seen=seen).groupby("group")["seen"].nunique()
    several = frame["group"].isin(known[known > 1].index)
    marks = seen.map(lambda text: hashlib.sha256(text.encode()).hexdigest()[:4] if text else "unknown")
    return frame.assign(group=frame["group"].where(~several, frame["group"] + "-" + marks))


def _list_row(row: Any) -> dict[str, Any]:
    config, broken = read_config(row.config)
    progress = row.progress if isinstance(row.progress, dict) else {}
    read = row._asdict()
    record = {name: read.get(name) for name in RUN_COLUMNS}
    step, steps = progress.get("step"), progress.get("steps")
    share = step / steps if isinstance(step, (int, float)) and isinstance(steps, (int, float)) and steps else None
    ran_in, content = run_environment(row.facts, row.config), run_content(row.facts)
    equal_to = run_keys(row.config)._asdict() | ran_in._asdict() | content._asdict()
    return record | equal_to | {
        "name": row.name or row.id,
        "task": task_key(row.task, row.config),
        "reason": row.reason or broken,
        "remedy": row.remedy or (LOST["remedy"] if broken else ""),
        "step": step,
        "steps": steps,
        "progress": 1.0 if row.state == "done" else share,
        "what": str(progress.get("what") or ""),
        "eta_s": progress.get("eta_s"),
        "tags": tag_list(row.tags),
        "archived": bool(row.archived),
        "method_origin": method_origin(config),
    }  # fmt: skip


def metrics_frame(connection: Connection, run_ids: Sequence[str], kinds: Sequence[str] | None) -> pd.DataFrame:
    query = _of(metrics, METRIC_COLUMNS, run_ids)
    if kinds is not None:
        query = query.where(metrics.c.kind.in_(kinds))
    return _frame(connection, query.order_by(metrics.c.run, metrics.c.step), METRIC_COLUMNS, ("value",))


def points(connection: Connection, run_id: str, after: int, kinds: Sequence[str] | None) -> list[Point]:
    """Plain rows: for the few points of a second a DataFrame would take most of the time."""
    query = select(*(metrics.c[name] for name in Point._fields)).join(runs, runs.c.number == metrics.c.run)
    query = query.where(runs.c.id == run_id, metrics.c.step > after)
    if kinds is not None:
        query = query.where(metrics.c.kind.in_(kinds))
    return [
        Point(*row)
        for row in connection.execute(query.order_by(metrics.c.step, metrics.c.kind, metrics.c.name)).tuples()
    ]


def quantities(connection: Connection, run_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and name of what was logged: far cheaper than the values."""
    query = select(metrics.c.kind, metrics.c.name).join(runs, runs.c.number == metrics.c.run)
    query = query.where(runs.c.id.in_(list(run_ids))).distinct()  # four times as fast as to group, or to sort there
    return sorted((row.kind, row.name) for row in connection.execute(query))


def evaluations_frame(connection: Connection, run_ids: Sequence[str]) -> pd.DataFrame:
    query = _of(evaluations, EVALUATION_COLUMNS, run_ids).order_by(evaluations.c.run, evaluations.c.step)
    return _frame(connection, query, EVALUATION_COLUMNS, ("value",))


def _of(table: Any, columns: Sequence[str], run_ids: Sequence[str]) -> Select[Any]:
    chosen = [runs.c.id.label("run"), *(table.c[name] for name in columns[1:])]
    return select(*chosen).join(runs, runs.c.number == table.c.run).where(runs.c.id.in_(list(run_ids)))


def _frame(connection: Connection, query: Select[Any], columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    # the driver's own tuples: no cell here needs converting, and a million points come three times as fast
    cursor: Any = connection.execute(query).cursor
    frame = pd.DataFrame.from_records(cursor.fetchall(), columns=list(columns))
    for column in numbers:
        frame[column] = pd.to_numeric(frame[column], errors="coerce").astype("float64")
    return frame
