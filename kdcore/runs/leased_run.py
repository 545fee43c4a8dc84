"""A run while a worker holds it: its events on their way to the store, its lease, and what was asked of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from kdcore import events
from kdcore.errors import CorruptError, DatabaseAwayError, UserError
from kdcore.events import Event
from kdcore.paths import run_dir
from kdcore.runs.claim_file import read_claim, write_claim

if TYPE_CHECKING:
    from kdcore.store import RunRow, Store

FLUSH_SECONDS = 0.5
"""Events are written, and the stop request is read, at most twice a second."""
RENEW_SECONDS = 10.0
LEAVE_SECONDS = 20.0
"""How long a training may take to its next checkpoint when the program closes; then it is left where it is."""
LOOK_SECONDS = 30.0
"""How often a worker looks for runs whose worker is gone."""
PATIENCE = 600.0
"""Seconds that the database may be away before a worker gives up what it has to ask or say."""
_REST = 5.0
"""So many times as long as a call waited for a database in vain, the training goes on without asking it again."""
_TURNING_POINTS = (events.RunStarted, events.StageStarted, events.RunFinished, events.RunStopped, events.RunFailed)

Answer = TypeVar("Answer")

log = logging.getLogger("kdcore.runs.worker")


class StopNow(BaseException):
    """Leaves the training loop at once. No Exception, so that no handler on the way takes it for a failure."""


class Outage:
    """Tells what goes wrong once, not each second, until all is well again."""

    def __init__(self, where: logging.Logger) -> None:
        self._where, self._told = where, ""

    def tell(self, words: object) -> None:
        if str(words) != self._told:
            self._told = str(words)
            self._where.warning("%s", words)

    def end(self) -> None:
        self._told = ""


class LeasedRun:
    """A run under this worker's lease: collects its events, keeps the lease, and is the engine's `Control`."""

    def __init__(self, store: Store, run_id: str, worker: str, closing: threading.Event) -> None:
        self.store, self.run_id, self.worker, self.closing = store, run_id, worker, closing
        self.lost = False
        self.claim_number = 0
        """Of this worker's claim, once `row` was read."""
        self._pending: list[Event] = []
        self._outage = Outage(log)
        self._lock = threading.Lock()
        self._flushed = self._renewed = self._looked = time.monotonic()
        self._asked = self._rests_until = 0.0
        self._closed: float | None = None
        self._stop: Literal["keep", "discard"] | None = None

    def row(self) -> RunRow:
        """The run as the store has it; raises StopNow where it is another worker's by now."""
        row = self.ask(lambda: self.store.get(self.run_id))
        self.lost = self.lost or row.worker != self.worker
        self.check()
        self.claim_number = row.claim_number
        return row

    def mark_folder(self) -> None:
        """Says in the run's folder that it is this claim's; raises StopNow where a later one has said so."""
        write_claim(run_dir(self.run_id), self.claim_number)
        self._check_folder()

    def _check_folder(self) -> None:
        self.lost = self.lost or read_claim(run_dir(self.run_id)) > self.claim_number
        if self.lost:
            raise StopNow

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """The store's answer; a database that is away is waited for, as its outage is no fault of the run.

        Raises:
            DatabaseAwayError: it does not answer for ten minutes, or the program closes. UserError: no such run.
        """
        began = time.monotonic()
        while True:
            try:
                return question()
            except DatabaseAwayError as error:
                if not self._may_wait(began, PATIENCE):
                    raise
                self._outage.tell(f"{self.run_id}: {error}")
            time.sleep(1.0)

    def _may_wait(self, began: float, patience: float) -> bool:
        """Whether there is time left for the database: little where the program closes, else so many seconds."""
        return time.monotonic() - began < patience and self._closing_for() < LEAVE_SECONDS / 2

    def _closing_for(self) -> float:
        """Seconds since the program was seen to close; 0 where it does not."""
        if self.closing.is_set() and self._closed is None:
            self._closed = time.monotonic()
        return 0.0 if self._closed is None else time.monotonic() - self._closed

    def hand_back(self, again: bool) -> None:
        """Gives the run back, to go on later; again: it waits in the queue. Where that fails, its lease ends."""
        try:
            self.flush()
            self.ask(lambda: self.store.release(self.run_id, self.worker, again=again))
        except UserError as error:
            self._outage.tell(f"{self.run_id}: {error}")

    def stop_requested(self) -> Literal["keep", "discard", "leave"] | None:
        """What was asked for, from any process. The engine calls this each step, so it looks at most twice a second.

        Raises:
            StopNow: the lease is lost, or the program has been closing for too long.
        """
        self.check()
        if self._stop is None and self.closing.is_set():
            return "leave"
        if self._stop is None and self._may_ask(self._asked):
            self._asked = time.monotonic()
            try:
                self._stop = cast(Any, self.store.stop_requested(self.run_id))
            except UserError:  # a busy database delays the stop, it does not end the run
                self._rest(self._asked)
        return self._stop

    def _may_ask(self, last: float) -> bool:
        """Whether it is time for what can wait, where the last such call was then."""
        now = time.monotonic()
        return now - last >= FLUSH_SECONDS and now >= self._rests_until

    def _rest(self, began: float) -> None:
        """A call that began then waited in vain. A server that vanished lets each wait for many steps' time."""
        now = time.monotonic()
        self._rests_until = now + _REST * (now - began)

    def check(self) -> None:
        """Raises StopNow where the training has to be left at once, checkpoint or not."""
        if self.lost or (self.closing.is_set() and self._closing_for() >= LEAVE_SECONDS):
            raise StopNow

    def check_open(self) -> None:
        """Raises StopNow where nothing would be lost by leaving, and the run is lost or the program closes."""
        if self.lost or self.closing.is_set():
            raise StopNow

    def say(self, event: Event) -> None:
        """Takes an event; turning points are written at once."""
        with self._lock:
            self._pending.append(event)
        if isinstance(event, _TURNING_POINTS) or self._may_ask(self._flushed):
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
                self._outage.end()
            except LeaseLostError:
                self.lost = True
            except CorruptError:
                raise
            except UserError as error:
                self._rest(self._flushed)
                self._outage.tell(f"{self.run_id}: {error}")

    def before_saving(self) -> None:
        """Writes what is pending; raises StopNow where the run is another worker's, or nobody's, by now."""
        self.finish(patience=60.0)
        try:
            self.check_held()
        except UserError as error:  # busy or away; whoever took the run meanwhile has said so in its folder
            self._outage.tell(f"{self.run_id}: {error}")
            self._check_folder()

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

    def finish(self, patience: float = PATIENCE) -> bool:
        """Writes the last words; without them the run would look interrupted. Returns whether the store has them."""
        began = time.monotonic()
        self.flush()
        while self._pending and not self.lost and self._may_wait(began, patience):
            time.sleep(1.0)
            self.flush()
        return not self._pending  # the timer may have found meanwhile that a run that ended is nobody's

    def tick(self) -> None:
        """Called by the timer: events of a slow run are not kept waiting, and the lease is renewed in long passes."""
        now = time.monotonic()
        try:
            if self._pending and self._may_ask(self._flushed):
                self.flush()
            if now - self._renewed >= RENEW_SECONDS:
                self._renewed = now
                self.lost = self.lost or not self.store.renew(self.run_id, self.worker)
            if now - self._looked >= LOOK_SECONDS:  # at the other processes: this one trains, perhaps for hours
                self._looked = now
                self.store.mark_interrupted()
        except UserError as error:  # busy or full: the next tick tries again, the lease outlives several
            self._outage.tell(f"{self.run_id}: {error}")

    def keep(self, over: threading.Event) -> None:
        """What the timer's thread does until the run is over."""
        while not over.wait(FLUSH_SECONDS):
            self.tick()
