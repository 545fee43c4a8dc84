"""Leases: whose clock counts, and which runs may be queued again."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from kdcore.errors import UserError
from kdcore.process import Process, is_alive, this_process
from kdcore.store.run_row import ACTIVE, MOVES, STATES

JUMP_SECONDS = 20.0
"""A clock that is set by less takes no lease from a living worker: it has far more left when it renews it."""


def clock(connection: Connection) -> float:
    """Seconds since 1970 by the database's clock, which all its workers share.

    SQLite has that of the computer that its file is on; what a worker takes for the time does not count there either.
    """
    if connection.dialect.name == "postgresql":
        query = "SELECT extract(epoch FROM clock_timestamp())"
    else:
        query = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    return float(connection.exec_driver_sql(query).scalar_one())


def serving_since(connection: Connection) -> float:
    """When the database's server was started, by the clock of leases; 0 where it has none. It was away before."""
    if connection.dialect.name != "postgresql":
        return 0.0
    return float(connection.exec_driver_sql("SELECT extract(epoch FROM pg_postmaster_start_time())").scalar_one())


class ClockWatch:
    """Sees the database's clock being set, against this process's own, which only goes forward; and the database away.

    Where it was set or away, leases tell nothing until every living worker has renewed its own.
    """

    def __init__(self, patience: float) -> None:
        """patience: seconds after which a living worker has renewed its lease."""
        self._patience = patience
        self._ahead: float | None = None
        self._since = monotonic()
        self._was_hurt = self._started_just_now = False

    def look(self, now: float, serving_since: float = 0.0) -> float:
        """Takes the database's time as it is this moment, and since when it answers; returns the time."""
        own = monotonic()
        if self._ahead is not None and abs(now - own - self._ahead) > JUMP_SECONDS:
            self._since, self._was_hurt = own, True
        self._ahead = now - own
        self._started_just_now = 0 <= now - serving_since < self._patience
        return now

    def miss(self) -> None:
        """Notes that the database does not answer at this moment."""
        self._since, self._was_hurt = monotonic(), True

    @property
    def watched(self) -> bool:
        """Whether this process has seen the clock go evenly for so long that every living worker renewed its lease."""
        return monotonic() - self._since >= self._patience

    @property
    def unsettled(self) -> bool:
        """Whether the clock was set, or the database away, a moment ago."""
        return self._started_just_now or (self._was_hurt and not self.watched)


def holder(row: Any) -> str:
    """Who trains the run: the process and its computer, as a person can look for it."""
    if not row.pid:
        return f"worker {row.worker}" if row.worker else "a worker"
    host = str(row.host or "")
    away = f"{row.node or 'another host'} ({host[:8]})"
    return f"process {row.pid} on {'this computer' if host == this_process().host else away}"


def abandoned(rows: Iterable[Any], now: float, patience: float, watch: ClockWatch) -> dict[str, str]:
    """Id -> reason of those held runs whose lease ran out or whose process is surely gone.

    patience: a lease's seconds, and those beyond its end for a process that is seen to live. A lease that ends later
    than one that is renewed now is of before the clock was set back, and nobody has renewed it since.
    """
    dead = {}
    for row in rows:
        alive = is_alive(Process(row.host or "", row.pid, row.process_started or "")) if row.pid else None
        until = row.lease_until if isinstance(row.lease_until, float) else 0.0
        late = until + patience * bool(alive) <= now and not watch.unsettled
        left = alive is None and until > now + patience + JUMP_SECONDS and watch.watched
        if alive is False or late or left:
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
