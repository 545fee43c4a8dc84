"""Rows of the table `runs`: adding one, finding one, and its cells that hold JSON."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, select
from sqlalchemy.exc import IntegrityError

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.formatting import init_label, options_label, student_label
from kdcore.identity import config_hash, protocol_key
from kdcore.store import event_writer
from kdcore.store.run_row import ACTIVE, slug
from kdcore.store.storable import storable_text
from kdcore.store.tables import runs

NO_LEASE = {"worker": None, "host": None, "pid": None, "process_started": None, "lease_until": None}
"""Columns of a run that no worker holds."""
AGAIN = {"state": "queued", "finished": None, "stop": None, "lost": False, "reason": "", "remedy": "", "detail": ""}
"""Columns of a run that waits once more."""


def add_row(
    connection: Connection,
    run: RunConfig,
    parent: str | None,
    sweep: str | None,
    wanted: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Inserts a queued run, under the wanted id if that is free; returns its id."""
    row = {
        "name": storable_text(run.name), "state": "queued", "config": run, "config_hash": config_hash(run),
        "protocol": protocol_key(run), "task": run.task, "method": run.method, "options": options_label(run),
        "student": student_label(run), "init": init_label(run), "seed": run.train.seed,
        "teachers": ", ".join(teacher.name for teacher in run.teachers), "created": time.time(),
        "position": next_position(), "parent": parent, "sweep": sweep, "tags": [], "facts": dict(facts or {}),
        "train_device": run.train.device, "memory": _predicted_memory(facts),
    }  # fmt: skip
    stem = f"{slug(run.method, 24)}-{slug(run.task, 24)}"
    for attempt in range(20):
        run_id = wanted if wanted and not attempt else f"{stem}-{secrets.token_hex(3)}"
        try:
            with connection.begin_nested():
                connection.execute(runs.insert().values(id=run_id, **row))
            return run_id
        except IntegrityError:
            continue
    raise UserError("run", "no free id was found", "try again")


def _predicted_memory(facts: Mapping[str, Any] | None) -> float | None:
    """Bytes that the run will take, where they were predicted."""
    predicted = (facts or {}).get("predicted")
    memory = predicted.get("memory") if isinstance(predicted, Mapping) else None
    return float(memory) if isinstance(memory, (int, float)) else None


def find_settings(connection: Connection, hashes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """`config_hash` -> (id, state) of the run with these settings, as `Store.find` gives it."""
    query = select(runs.c.config_hash, runs.c.id, runs.c.state).where(runs.c.config_hash.in_(list(hashes)))
    # later rows replace earlier ones: newer before older, and what is done or under way before what is not
    rank = {"done": 3, "queued": 1} | dict.fromkeys(ACTIVE, 2)
    rows = sorted(connection.execute(query.order_by(runs.c.number)), key=lambda row: rank.get(row.state, 0))
    return {row.config_hash: (row.id, row.state) for row in rows}


def held_by(run_id: str, worker: str) -> Any:
    """Whether this worker holds the run, as SQL."""
    return and_(runs.c.id == run_id, runs.c.worker == worker, runs.c.state.in_(ACTIVE))


def next_position() -> Any:
    """The place behind the last in the queue, as SQL."""
    return select(func.coalesce(func.max(runs.c.position), 0) + 1).scalar_subquery()


def first_position() -> Any:
    """The place before the first in the queue, as SQL."""
    waiting = select(func.coalesce(func.min(runs.c.position), 1) - 1).where(runs.c.state == "queued")
    return waiting.scalar_subquery()


def find_row(connection: Connection, run_id: str) -> Any:
    """The row of this run.

    Raises:
        UserError: no such run.
    """
    row = connection.execute(select(runs).where(runs.c.id == storable_text(run_id))).first()
    if row is None:
        raise UserError("run", f"no run {storable_text(run_id)[:60]!r}", "`runs` lists those there are")
    return row


def merged_json(row: Any, batch: event_writer.Batch) -> dict[str, Any]:
    """facts and progress as they are after this flush; stages keep their first order, replayed ones are replaced."""
    changes: dict[str, Any] = {}
    facts = row.facts if isinstance(row.facts, dict) else {}
    if batch.facts or batch.stages:
        stages = {stage["stage"]: stage for stage in [*facts.get("stages", []), *batch.stages]}
        changes["facts"] = facts | batch.facts | {"stages": list(stages.values())}
    if batch.progress:
        changes["progress"] = (row.progress if isinstance(row.progress, dict) else {}) | batch.progress
    return changes
