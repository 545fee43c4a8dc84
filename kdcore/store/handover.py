"""Runs that go from one worker to the next: given back, or found without a worker."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Engine, select

from kdcore.store import database
from kdcore.store.run_table import AGAIN, NO_LEASE, first_position, held_by
from kdcore.store.tables import runs


class Handover:
    """The part of `Store` that hands runs over."""

    engine: Engine

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
