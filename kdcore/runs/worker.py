"""Training in the background: one worker thread per device takes runs from the store's queue and drives the engine."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore import events
from kdcore.config import RunConfig
from kdcore.disk import FullDiskError, check_room, full_disk, is_full
from kdcore.errors import CorruptError, DatabaseAwayError, UserError
from kdcore.events import Event
from kdcore.paths import run_dir
from kdcore.remote import DamagedRemoteError, RemoteError, open_remote
from kdcore.runs.capability import capability, has_own_worker
from kdcore.runs.event_log import describe, run_log
from kdcore.runs.failures import explain
from kdcore.runs.leased_run import LOOK_SECONDS, LeasedRun, StopNow
from kdcore.runs.memory import free_memory
from kdcore.runs.remote_runs import fetch_run, try_push
from kdcore.runs.trackers import live

if TYPE_CHECKING:
    from kdcore.store import Capability, Store

Train = Callable[[RunConfig, Path, Any], Iterator[Event]]
"""`engine.trainer.train`, or a script of events in tests."""

IDLE_SECONDS = 1.0
_ENDINGS = (events.RunFinished, events.RunStopped, events.RunFailed)
_PUSHED_FIRST = (events.Checkpointed, events.RunStopped, events.RunFinished)
"""What a run's folder is pushed at, where computers have no common disk: before others hear of it."""
_HOLDER = "_kdboard_jobs"

log = logging.getLogger("kdcore.runs.worker")


class Worker:
    """Drives claimed runs, one at a time, in the thread that calls it."""

    def __init__(
        self, store: Store, device: str, train: Train | None = None, closing: Any = None, again: bool = False,
        can: Capability | None = None,
    ) -> None:  # fmt: skip
        """again: a run that it leaves waits in the queue for the next worker; else a person resumes it.

        can: what it can train; None: found out from the device when the first run waits.
        """
        self.again, self.can = again, can
        self.store, self.device, self.train = store, device, train or _engine
        self.name = f"{device}-{os.getpid()}-{secrets.token_hex(4)}"
        self.closing: threading.Event = closing or threading.Event()
        self.running: str | None = None

    def take(self, run_id: str | None = None) -> str | None:
        """The next queued run that can be trained here, or just this one; None where there is none. It is claimed.

        Raises:
            FullDiskError: this computer's disk has no room for any run, so all are left to other workers.
            RemoteError: `KD_REMOTE` cannot be used.
        """
        if run_id is not None:
            return self.store.claim(self.name, self.device, run_id)
        check_room()
        open_remote()
        if self.can is None:
            if not self.store.waiting():
                return None
            self.can = capability(self.device)
        return self.store.claim(self.name, self.device, can=self.can)

    def drive(self, run_id: str, on_event: Callable[[Event], None] | None = None) -> str:
        """Trains a claimed run to its end; returns the state it ended in. Failures end the run, never the worker.

        Raises:
            KeyboardInterrupt: after the run was released, so that it can be resumed.
            FullDiskError, RemoteError: after it was given back to other workers, where `again` says there are some.
            DatabaseAwayError: the database has not answered for ten minutes; the run waits for its lease to end.
        """
        self.running = run_id
        held = LeasedRun(self.store, run_id, self.name, self.closing)
        over = threading.Event()
        timer = threading.Thread(target=held.keep, args=(over,), name=f"lease-{run_id}", daemon=True)
        timer.start()
        try:
            self._follow_logged(held, on_event)
            held.finish()
        except (StopNow, KeyboardInterrupt) as left:
            held.hand_back(self.again)
            if isinstance(left, KeyboardInterrupt):
                raise
        except RemoteError:  # no fault of the run: it waits, and no attempt is counted
            held.finish()
            held.hand_back(again=True)
            raise
        except FullDiskError as error:
            held.finish()
            why = f"{error.field}: {error.problem}"
            with contextlib.suppress(UserError):  # then its lease ends, and tells the same
                held.ask(lambda: self.store.lose(run_id, self.name, why))
            raise
        finally:
            over.set()
            timer.join(timeout=30)
            self.running = None
            free_memory()
        return held.ask(lambda: self.store.get(run_id)).state

    def _follow_logged(self, held: LeasedRun, on_event: Callable[[Event], None] | None) -> None:
        """`_follow` with the run's log; a folder or log that cannot be written fails this run, and no other."""
        try:
            run = held.row().config
            fetch_run(held.run_id, held.check_open)
            held.mark_folder()
            with run_log(held.run_id) as write:
                self._follow(held, run, on_event, write)
        except (OSError, UserError) as error:
            self._check_computer(error)
            if isinstance(error, CorruptError) and error.field == "database":
                raise
            _fail(held, on_event, explain(error))

    def _follow(
        self, held: LeasedRun, run: RunConfig, on_event: Callable[[Event], None] | None, write: Callable[[str], None]
    ) -> None:
        try:
            ending = self._report_events(held, run, on_event, write)
            if ending is not None:
                return
            if self.closing.is_set():
                raise StopNow
            raise RuntimeError("training ended without a result")
        except Exception as error:
            self._check_computer(error)
            failed = explain(error)
            write(describe(failed) + "\n" + failed.detail)
            _fail(held, on_event, failed)

    def _report_events(
        self, held: LeasedRun, run: RunConfig, on_event: Callable[[Event], None] | None, write: Callable[[str], None]
    ) -> Event | None:
        """Trains, and tells each event to all who listen; the one that ended the training, if any did."""
        ending: Event | None = None
        with live(held.run_id, run) as track:
            for event in self._events(held, run):
                if isinstance(event, _PUSHED_FIRST):
                    try_push(held.run_id, held.claim_number, held.check_held, held.check)
                held.say(event)
                track(event)
                if line := describe(event):
                    write(line)
                if on_event is not None:
                    on_event(event)
                if isinstance(event, events.RunFinished) and held.finish():
                    ending = event  # nobody takes it up any more, so the training may drop its checkpoint
                elif isinstance(event, _ENDINGS):
                    return event
                else:
                    held.check()
        if ending is not None:
            try_push(held.run_id, held.claim_number)
        return ending

    def _check_computer(self, error: Exception) -> None:
        """Raises what is wrong with this computer alone, where another worker may go on with the run."""
        if self.again and is_full(error):
            raise full_disk() from error
        reachable = isinstance(error, DamagedRemoteError) or not isinstance(error, RemoteError)
        if isinstance(error, (FullDiskError, DatabaseAwayError)) or (self.again and not reachable):
            raise error

    def _events(self, held: LeasedRun, run: RunConfig) -> Iterator[Event]:
        for teacher in (*run.teachers, *([run.base] if run.base else [])):
            if teacher.source == "run":
                fetch_run(teacher.where, held.check_open)
        folder = run_dir(held.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        training = self.train(run, folder, held)
        try:
            yield from training
        finally:
            if hasattr(training, "close"):
                training.close()


class Jobs:
    """The background workers of one process on one store. Get it with `jobs()`."""

    def __init__(
        self, store: Store | None = None, train: Train | None = None, devices: Sequence[str] = ("auto",)
    ) -> None:
        """devices: one worker thread each; "auto" is the device that each run's own settings choose."""
        if store is None:
            from kdcore.store import open_store

            store = open_store()
        self.store = store
        self.problem = ""
        """Why the queue does not move (a full disk, a damaged database); empty when all is well."""
        self._train = train
        self._devices = tuple(dict.fromkeys(devices))
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._workers: dict[str, Worker] = {}

    def start(self) -> Jobs:
        """Starts the workers that are not yet there. Runs that a dead process left are marked interrupted."""
        with self._lock:
            self.store.mark_interrupted()
            self._closing.clear()
            for device in self._devices:
                thread = self._threads.get(device)
                if thread is None or not thread.is_alive():
                    worker = Worker(self.store, device, self._train, self._closing)
                    thread = threading.Thread(target=self._work, args=(worker,), name=f"kdboard-{device}", daemon=True)
                    self._workers[device], self._threads[device] = worker, thread
                    thread.start()
        return self

    def submit(
        self,
        run: RunConfig,
        *,
        parent: str | None = None,
        sweep: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> str:
        """Queues a run and sees that a worker is there; returns its id. The words are those of `Store.add_run`."""
        run_id = self.store.add_run(run, parent=parent, sweep=sweep, facts=facts)
        self._go()
        return run_id

    def resume(self, run_id: str) -> None:
        """Queues an interrupted, failed, stopped or cancelled run again; it goes on from its checkpoint."""
        self.store.requeue(run_id)
        self._go()

    def stop(self, run_id: str, keep: bool = True) -> None:
        """Asks for a stop; keep: the student is saved."""
        self.store.request_stop(run_id, keep)

    @property
    def running(self) -> list[str]:
        """Ids of the runs that this process trains now."""
        return [worker.running for worker in self._workers.values() if worker.running]

    @property
    def can(self) -> Capability | None:
        """What this process can train; None before anything waited, or where it trains nothing."""
        return next((worker.can for worker in self._workers.values()), None)

    def shutdown(self, timeout: float = 30.0) -> None:
        """Ends the workers. A run under way is released as interrupted and can be resumed."""
        self._closing.set()
        self._wake.set()
        for thread in list(self._threads.values()):
            thread.join(timeout)
        for worker in list(self._workers.values()):
            if (run_id := worker.running) is not None:  # deep in a long computation: let others see the truth
                with contextlib.suppress(Exception):
                    self.store.release(run_id, worker.name)

    def _go(self) -> None:
        self.start()
        self._wake.set()

    def _work(self, worker: Worker) -> None:
        looked = time.monotonic()
        while not self._closing.is_set():
            try:
                if time.monotonic() - looked > LOOK_SECONDS:
                    looked = time.monotonic()
                    self.store.mark_interrupted()
                run_id = worker.take()
                self.problem = ""
                if run_id is not None:
                    worker.drive(run_id)
                    continue
            except Exception as error:
                self.problem = str(error)
                log.exception("the queue of %s", worker.device)
            self._wake.wait(IDLE_SECONDS)
            self._wake.clear()


def jobs() -> Jobs:
    """The one Jobs of this process (and store). It is kept beside `sys`'s own things, so a reload keeps its threads."""
    from kdcore.store import open_store

    store = open_store()
    lock, workers = sys.__dict__.setdefault(_HOLDER, (threading.Lock(), {}))
    key = (os.getpid(), store.engine.url.render_as_string())
    with lock:
        if key not in workers:
            workers[key] = Jobs(store, devices=("auto",) if has_own_worker() else ())
            atexit.register(workers[key].shutdown, 5.0)
        result: Jobs = workers[key]
        return result


def _fail(held: LeasedRun, on_event: Callable[[Event], None] | None, failed: events.RunFailed) -> None:
    held.say(failed)
    if on_event is not None:
        on_event(failed)


def _engine(run: RunConfig, folder: Path, control: Any) -> Iterator[Event]:
    from kdcore.engine.trainer import train  # heavy, and only the one who trains needs it

    # Streamlit collects garbage after every tick of a page that watches. Walking the libraries' million objects each
    # time holds the interpreter for a good part of a second, and the training thread waits; frozen, they are left out.
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()

    return train(run, folder, control)
