"""A run while a worker holds it: its events on their way to the store, its lease, and what was asked of it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, cast

from kdcore import events
from kdcore.errors import CorruptError, UserError
from kdcore.events import Event

if TYPE_CHECKING:
    from kdcore.store import RunRow, Store

FLUSH_SECONDS = 0.5
"""Events are written, and the stop request is read, at most twice a second."""
RENEW_SECONDS = 10.0
LEAVE_SECONDS = 20.0
"""How long a training may take to its next checkpoint when the program closes; then it is left where it is."""
LOOK_SECONDS = 30.0
"""How often a worker looks for runs whose worker is gone."""
_TURNING_POINTS = (events.RunStarted, events.StageStarted, events.RunFinished, events.RunStopped, events.RunFailed)

log = logging.getLogger("kdcore.runs.worker")


class StopNow(BaseException):
    """Leaves the training loop at once. No Exception, so that no handler on the way takes it for a failure."""


class LeasedRun:
    """A run under this worker's lease: collects its events, keeps the lease, and is the engine's `Control`."""

    def __init__(self, store: Store, run_id: str, worker: str, closing: threading.Event) -> None:
        self.store, self.run_id, self.worker, self.closing = store, run_id, worker, closing
        self.lost = False
        self.claim_number = 0
        """Of this worker's claim, once `row` was read."""
        self._pending: list[Event] = []
        self._lock = threading.Lock()
        self._flushed = self._renewed = self._looked = time.monotonic()
        self._asked = 0.0
        self._closed: float | None = None
        self._stop: Literal["keep", "discard"] | None = None

    def row(self) -> RunRow:
        """The run as the store has it; raises StopNow where it is another worker's by now."""
        row = self.store.get(self.run_id)
        self.lost = self.lost or row.worker != self.worker
        self.check()
        self.claim_number = row.claim_number
        return row

    def stop_requested(self) -> Literal["keep", "discard", "leave"] | None:
        """What was asked for, from any process. The engine calls this each step, so it looks at most twice a second.

        Raises:
            StopNow: the lease is lost, or the program has been closing for too long.
        """
        self.check()
        now = time.monotonic()
        if self._stop is None and self.closing.is_set():
            return "leave"
        if self._stop is None and now - self._asked >= FLUSH_SECONDS:
            self._asked = now
            with contextlib.suppress(UserError):  # a busy database delays the stop, it does not end the run
                self._stop = cast(Any, self.store.stop_requested(self.run_id))
        return self._stop

    def check(self) -> None:
        """Raises StopNow where the training has to be left at once, checkpoint or not."""
        now = time.monotonic()
        if self.closing.is_set() and self._closed is None:
            self._closed = now
        if self.lost or (self._closed is not None and now - self._closed >= LEAVE_SECONDS):
            raise StopNow

    def say(self, event: Event) -> None:
        """Takes an event; turning points are written at once."""
        with self._lock:
            self._pending.append(event)
        if isinstance(event, _TURNING_POINTS) or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what is pending; what a busy or full database does not take now stays for the next time."""
        from kdcore.store import LeaseLostError

        with self._lock:
            self._flushed = time.monotonic()
            if not self._pending or self.lost:
                return
            try:
                self.store.record(self.run_id, self._pending, worker=self.worker)
                self._pending = []
            except LeaseLostError:
                self.lost = True
            except CorruptError:
                raise
            except UserError as error:
                log.warning("%s: %s", self.run_id, error)

    def before_saving(self) -> None:
        """Writes what is pending; raises StopNow where the run is another worker's, or nobody's, by now."""
        self.finish()
        try:
            self.check_held()
        except UserError as error:  # busy: the lease was renewed a few seconds ago
            log.warning("%s: %s", self.run_id, error)

    def check_held(self) -> None:
        """Returns where the run is this worker's and the store has all that it said.

        Raises:
            StopNow: it is another worker's, or nobody's, by now. UserError: the database does not tell.
        """
        self.flush()
        self.lost = self.lost or not self.store.renew(self.run_id, self.worker)
        if self.lost:
            raise StopNow
        if self._pending:
            raise UserError("database", f"it lacks what {self.run_id} said last", "see that it can be written")

    def finish(self, patience: float = 60.0) -> bool:
        """Writes the last words; without them the run would look interrupted. Returns whether the store has them."""
        until = time.monotonic() + patience
        self.flush()
        while self._pending and not self.lost and time.monotonic() < until:
            time.sleep(1.0)
            self.flush()
        return not self._pending and not self.lost

    def tick(self) -> None:
        """Called by the timer: events of a slow run are not kept waiting, and the lease is renewed in long passes."""
        now = time.monotonic()
        try:
            if self._pending and now - self._flushed >= FLUSH_SECONDS:
                self.flush()
            if now - self._renewed >= RENEW_SECONDS:
                self._renewed = now
                self.lost = self.lost or not self.store.renew(self.run_id, self.worker)
            if now - self._looked >= LOOK_SECONDS:  # at the other processes: this one trains, perhaps for hours
                self._looked = now
                self.store.mark_interrupted()
        except UserError as error:  # busy or full: the next tick tries again, the lease outlives several
            log.warning("%s: %s", self.run_id, error)

    def keep(self, over: threading.Event) -> None:
        """What the timer's thread does until the run is over."""
        while not over.wait(FLUSH_SECONDS):
            self.tick()
