"""Which worker trains which run: claims, leases, and runs that go from a worker to the next."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, false, func, or_, select

from kdcore.errors import UserError
from kdcore.process import node, this_process
from kdcore.store import database
from kdcore.store.leases import ClockWatch, abandoned, clock, serving_since
from kdcore.store.run_row import ACTIVE
from kdcore.store.run_table import AGAIN, NO_LEASE, first_position, held_by
from kdcore.store.tables import runs

LEASE_SECONDS = 60.0
"""How long a worker's word holds. Renewed by a timer every few seconds, so only a dead worker lets it run out."""

ATTEMPTS = 3
"""So many workers may be lost with a run, and no new checkpoint in between, before it counts as failed."""

Capability = Mapping[str, float]
"""What a worker can train: value of `train.device` -> bytes of memory that such a run may take."""


class Claims:
    """The part of `Store` that workers use to take runs, to keep them and to hand them over."""

    engine: Engine
    watch: ClockWatch

    def claim(
        self,
        worker: str,
        device: str,
        run_id: str | None = None,
        lease: float = LEASE_SECONDS,
        can: Capability | None = None,
    ) -> str | None:
        """Takes the first queued run (or just `run_id`, if it is queued) for this worker; None where there is none.

        can: what the worker can train, other runs are left to others; None: whatever there is.

        A claim has a number that is larger than those of the run's claims before, also where the clock went back, and
        where an earlier database was lost (a fencing token: Chubby, Burrows 2006, section 2.4).
        """
        holder = this_process()
        query = select(runs).where(runs.c.state == "queued").order_by(runs.c.position, runs.c.number).limit(1)
        if run_id is not None:
            query = query.where(runs.c.id == run_id)
        if can is not None:
            query = query.where(_within(can))
        with database.read(self.engine) as connection:  # an idle worker asks each second and takes no write lock
            if connection.execute(query).first() is None:
                return None
        with database.write(self.engine) as connection:
            row = connection.execute(query.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            now = clock(connection)
            changes = {
                "state": "starting", "device": device, "node": node(), "worker": worker, "host": holder.host,
                "pid": holder.pid, "process_started": holder.started, "lease_until": now + lease,
                "claim_number": max(row.claim_number + 1, int(now)), "started": row.started or now, "finished": None,
                "stop": None, "lost": False, "reason": "", "remedy": "", "detail": "",
            }  # fmt: skip
            connection.execute(runs.update().where(runs.c.number == row.number).values(changes))
            result: str | None = row.id
            return result

    def waiting(self, can: Capability | None = None) -> list[str]:
        """Ids of the queued runs that a worker can train, in the order of the queue."""
        query = select(runs.c.id).where(runs.c.state == "queued").order_by(runs.c.position, runs.c.number)
        if can is not None:
            query = query.where(_within(can))
        with database.read(self.engine) as connection:
            return list(connection.execute(query).scalars())

    def active(self) -> list[str]:
        """Ids of the runs that workers hold."""
        with database.read(self.engine) as connection:
            return list(connection.execute(select(runs.c.id).where(runs.c.state.in_(ACTIVE))).scalars())

    def renew(self, run_id: str, worker: str, lease: float = LEASE_SECONDS) -> bool:
        """Lengthens the lease; False where the worker no longer holds the run."""
        held = held_by(run_id, worker)
        with self._watched(), database.write(self.engine) as connection:
            until = clock(connection) + lease
            return connection.execute(runs.update().where(held).values(lease_until=until)).rowcount == 1

    def release(self, run_id: str, worker: str, reason: str = "the program was closed", again: bool = False) -> bool:
        """Gives back a run that has not ended: it is interrupted and can be resumed.

        again: it waits at the front of the queue instead, unless a stop was asked for. False: the worker had lost it.
        """
        with database.write(self.engine) as connection:
            row = connection.execute(select(runs.c.number, runs.c.stop).where(held_by(run_id, worker))).first()
            if row is None:
                return False
            changes: dict[str, Any] = dict(NO_LEASE)
            if again and row.stop is None:
                changes |= AGAIN | {"position": first_position()}
            else:
                changes |= {"stop": None, "state": "interrupted", "finished": time.time()}
                changes |= {"reason": reason, "remedy": "resume it"}
            connection.execute(runs.update().where(runs.c.number == row.number).values(changes))
            return True

    def lose(self, run_id: str, worker: str, why: str) -> bool:
        """Gives back a run as if this worker were lost with it: others take it up. False: it was lost already.

        why: what happened, for a person.
        """
        with database.write(self.engine) as connection:
            row = connection.execute(select(runs).where(held_by(run_id, worker))).first()
            if row is not None:
                connection.execute(runs.update().where(runs.c.number == row.number).values(_loss(row, why)))
            return row is not None

    def mark_interrupted(self) -> list[str]:
        """Marks runs whose lease ran out or whose process is surely gone; returns their ids.

        A process that is seen to live gets twice the time: a laptop that wakes up finds all leases expired. Where this
        process has seen the database's clock being set, or the database was away, all get a lease's length to renew
        theirs. A run that has been lost `ATTEMPTS` times without a new checkpoint in between has failed.
        """
        if not self.abandoned():  # mostly, and then no write lock is taken
            return []
        with database.write(self.engine) as connection:
            held = connection.execute(select(runs).where(runs.c.state.in_(ACTIVE)).with_for_update()).all()
            dead = abandoned(held, self._look(connection), LEASE_SECONDS, self.watch)
            for row in held:
                if row.id in dead:
                    connection.execute(runs.update().where(runs.c.id == row.id).values(_loss(row, dead[row.id])))
        return list(dead)

    def abandoned(self) -> dict[str, str]:
        """Id -> reason of the runs that `mark_interrupted` would mark; changes nothing."""
        with self._watched(), database.read(self.engine) as connection:
            held = connection.execute(select(runs).where(runs.c.state.in_(ACTIVE))).all()
            return abandoned(held, self._look(connection), LEASE_SECONDS, self.watch)

    def take_up(self) -> list[str]:
        """Puts runs whose worker was lost to the front of the queue, where they resume from their checkpoints.

        Returns their ids. Runs that a person interrupted, or asked to stop, stay as they are.
        """
        self.mark_interrupted()
        with database.read(self.engine) as connection:
            if not _lost(connection):
                return []
        with database.write(self.engine) as connection:
            lost = _lost(connection)
            for run_id in reversed(lost):
                again = AGAIN | {"position": first_position()}
                connection.execute(runs.update().where(runs.c.id == run_id).values(again))
        return lost

    def _look(self, connection: Connection) -> float:
        """The database's time at this moment, which the watch has seen."""
        return self.watch.look(clock(connection), serving_since(connection))

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Within the block a database that does not answer is noted."""
        try:
            yield
        except UserError:
            self.watch.miss()
            raise


def _lost(connection: Connection) -> list[str]:
    query = select(runs.c.id).where(runs.c.state == "interrupted", runs.c.lost).order_by(runs.c.number)
    return list(connection.execute(query).scalars())


def _loss(row: Any, why: str) -> dict[str, Any]:
    """The columns of a run whose worker is gone."""
    attempts = (row.attempts or 0) + 1
    changes = NO_LEASE | {"stop": None, "finished": time.time(), "attempts": attempts}
    if attempts < ATTEMPTS:
        changes |= {"lost": row.stop is None, "state": "interrupted", "reason": why, "remedy": "resume it"}
        return changes
    reason = f"{attempts} workers were lost with it, none of them after a new checkpoint; the last: {why}"
    remedy = "its log may tell why (memory: lower train.batch_size or raise train.accumulate); then resume it"
    return changes | {"state": "failed", "reason": reason, "remedy": remedy}


def _within(can: Capability) -> ColumnElement[bool]:
    """Whether a worker can train the run, as SQL. A run without a prediction fits everywhere."""
    memory = func.coalesce(runs.c.memory, 0.0)
    return or_(false(), *(and_(runs.c.train_device == device, memory <= most) for device, most in can.items()))
