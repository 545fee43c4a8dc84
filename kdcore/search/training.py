"""Trials as ordinary runs of the store's one queue: put in, trained here or by any other worker, watched, ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from kdcore.config import RunConfig
from kdcore.errors import CorruptError, UserError
from kdcore.events import Event
from kdcore.runs.worker import Worker
from kdcore.store import UNFINISHED, Store

if TYPE_CHECKING:
    from kdcore.runs.worker import Train

log = logging.getLogger("kdcore.search")

LOOK_SECONDS = 0.5
"""How often the runs under way are looked at."""
LOST_SECONDS = 30.0
"""How often runs are looked for whose worker was lost."""


class Proposal(Protocol):
    """What is to be trained, and what is done with what it shows."""

    run: RunConfig
    facts: dict[str, Any]

    def starts(self, run_id: str, state: str) -> None:
        """It is in the store, in this state."""

    def falls_behind(self, evaluations: pd.DataFrame) -> bool:
        """Whether it should end early. evaluations: as `Store.evaluations` gives them."""

    def ends(self, run_id: str, state: str) -> None:
        """It came to an end: done, stopped, failed or cancelled."""


@dataclass
class Training:
    """Trains what is proposed until nothing is. on_start: is told the run's id and name.

    slots: runs under way at once; one of them is trained here. train: in place of the engine, for tests.
    """

    store: Store
    sweep: str
    propose: Callable[[], Proposal | None]
    slots: int = 1
    train: Train | None = None
    on_start: Callable[[str, str], None] = lambda run, name: None
    on_event: Callable[[Event], None] = lambda event: None
    _open: dict[str, Proposal] = field(default_factory=dict)
    _looked: float = float("-inf")
    _searched: float = float("-inf")

    def go(self) -> None:
        """Returns when nothing more is proposed and all that was has ended."""
        worker = Worker(self.store, "auto", self.train)
        while self._tick():
            taken = next(self._taken(worker), None)
            if taken is None:
                time.sleep(LOOK_SECONDS)
                continue
            self.on_start(taken, self._open[taken].run.name)
            worker.drive(taken, self._on_event)
            self._looked = float("-inf")

    def _taken(self, worker: Worker) -> Iterator[str]:
        """Runs that wait, as this worker gets hold of them."""
        for run in list(self._open):
            if worker.take(run) is not None:
                yield run

    def _on_event(self, event: Event) -> None:
        self.on_event(event)
        try:
            self._tick()
        except CorruptError:
            raise
        except UserError as error:  # raised here, it would end the run that is trained
            log.warning("%s", error)

    def _tick(self) -> bool:
        """Looks at what is under way, not too often, and puts in what there is room for. False: all is done."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return True
        self._looked = now
        if now - self._searched >= LOST_SECONDS:
            self._searched = now
            self.store.take_up()
        self._look()
        self._fill()
        return bool(self._open)

    def _look(self) -> None:
        rows = self.store.rows(list(self._open))
        for run, proposal in list(self._open.items()):
            row = rows.get(run)
            if row is not None and row.state == "interrupted":  # its worker was closed: another takes it up
                self.store.requeue(run)
            elif row is None or row.state not in UNFINISHED:
                del self._open[run]
                proposal.ends(run, row.state if row else "cancelled")
            elif row.state == "running" and row.sweep == self.sweep:  # what others asked for runs to its end
                self._judge(run, proposal)

    def _judge(self, run: str, proposal: Proposal) -> None:
        if self.store.stop_requested(run) is None and proposal.falls_behind(self.store.evaluations(run)):
            try:
                self.store.request_stop(run, keep=False)
            except UserError:  # it ended meanwhile
                return

    def _fill(self) -> None:
        while len(self._open) < self.slots and (proposal := self.propose()) is not None:
            run, state = self.store.ensure(proposal.run, sweep=self.sweep, facts=proposal.facts)
            proposal.starts(run, state)
            if state in UNFINISHED:
                self._open[run] = proposal
            else:
                proposal.ends(run, state)
