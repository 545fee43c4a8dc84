"""Leases: whose clock counts, and which runs may be queued again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from kdcore.errors import UserError
from kdcore.process import Process, is_alive, this_process
from kdcore.store.run_row import ACTIVE, MOVES, STATES


def clock(connection: Connection) -> float:
    """Seconds since 1970 by the database's clock, which all its workers share.

    SQLite has that of the computer that its file is on; what a worker takes for the time does not count there either.
    """
    if connection.dialect.name == "postgresql":
        query = "SELECT extract(epoch FROM clock_timestamp())"
    else:
        query = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    return float(connection.exec_driver_sql(query).scalar_one())


def holder(row: Any) -> str:
    """Who trains the run: the process and its computer, as a person can look for it."""
    if not row.pid:
        return f"worker {row.worker}" if row.worker else "a worker"
    host = str(row.host or "")
    away = f"{row.node or 'another host'} ({host[:8]})"
    return f"process {row.pid} on {'this computer' if host == this_process().host else away}"


def abandoned(rows: Iterable[Any], now: float, patience: float) -> dict[str, str]:
    """Id -> reason of those held runs whose lease ran out or whose process is surely gone.

    patience: seconds beyond the lease's end for a process that is seen to live.
    """
    dead = {}
    for row in rows:
        alive = is_alive(Process(row.host or "", row.pid, row.process_started or "")) if row.pid else None
        until = row.lease_until if isinstance(row.lease_until, float) else 0.0
        if alive is False or until + patience * bool(alive) <= now:
            why = "its process ended" if alive is False else "its worker has not been heard of"
            dead[row.id] = f"{why} before the run was over"
    return dead


def check_may_be_queued(row: Any) -> None:
    """Raises UserError where the run of this row may not be put into the queue again."""
    if row.state in ACTIVE:
        remedy = f"stop it first (kdcore stop {row.id}), then resume it"
        raise UserError("run", f"{row.id} is {row.state}: {holder(row)} trains it", remedy)
    if row.state == "queued":
        raise UserError("run", f"{row.id} is queued already", "start a worker (the dashboard, or kdcore resume)")
    if "queued" not in MOVES.get(row.state, STATES):
        raise UserError("run", f"{row.id} is {row.state} and cannot become queued", "clone it to train again")
