"""A worker without a page: takes runs from the queue until there is nothing left to do, or it is asked to end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kdcore.disk import FullDiskError
from kdcore.errors import CorruptError, DatabaseAwayError, UserError
from kdcore.remote import RemoteError
from kdcore.runs.leased_run import PATIENCE, Outage
from kdcore.runs.worker import Worker

LOOK_SECONDS = 30.0
"""How often an idle worker looks for runs whose worker was lost."""
FULL_SECONDS = 60.0
"""How long a worker waits for room on its computer's disk."""

log = logging.getLogger("kdcore.runs.work")


class Closing(threading.Event):
    """An event that a signal handler may set: it has no lock that the interrupted thread could be holding."""

    def __init__(self) -> None:
        super().__init__()
        self._closing = False

    def set(self) -> None:
        self._closing = True

    def is_set(self) -> bool:
        return self._closing

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self._closing and (until is None or time.monotonic() < until):
            time.sleep(0.05)
        return self._closing


def work(
    worker: Worker,
    runs: int | None = None,
    idle: float | None = None,
    on_start: Callable[[str], None] = lambda run: None,
    on_end: Callable[[str, str], None] = lambda run, state: None,
) -> dict[str, str]:
    """Trains runs of the queue, one after another, until `worker.closing` is set.

    runs: at most so many. idle: seconds without a run after which it ends; 0: when there is none to take; None: never.
    on_start: is told the id of each run; on_end: its id and the state it ended in.

    Returns id -> the state it ended in; "queued" where it was left to the next worker.

    Raises:
        UserError: the database cannot be used for ten minutes. CorruptError: it is damaged. FullDiskError: the disk of
            this computer has no room for a minute, or was filled by a run.
    """
    ended: dict[str, str] = {}
    free = reached = time.monotonic()
    looked: float | None = None
    outage = Outage(log)
    while not worker.closing.is_set() and (runs is None or len(ended) < runs):
        now = time.monotonic()
        try:
            if looked is None or now - looked >= LOOK_SECONDS:
                looked = now
                worker.store.take_up()
            run_id = worker.take()
            reached = time.monotonic()
            outage.end()
        except CorruptError:
            raise
        except UserError as error:
            if now - reached >= (FULL_SECONDS if isinstance(error, FullDiskError) else PATIENCE):
                raise
            outage.tell(error)
            worker.closing.wait(1.0)
            continue
        if run_id is not None:
            _tell(on_start, run_id)
            try:
                ended[run_id] = worker.drive(run_id)
            except RemoteError as error:  # the run waits again, and so does this worker
                log.warning("%s: %s", run_id, error)
                worker.closing.wait(LOOK_SECONDS)
                continue
            except DatabaseAwayError as error:
                if not worker.closing.is_set():
                    raise
                log.warning("%s: %s", run_id, error)  # its lease will end
                continue
            _tell(on_end, run_id, ended[run_id])
            free = reached = time.monotonic()
        elif idle is not None and now - free >= idle:
            break
        else:
            worker.closing.wait(1.0 if idle is None else min(1.0, idle))
    return ended


def _tell(listener: Callable[..., None], *words: str) -> None:
    """What is only told to a person ends no worker where the database does not answer."""
    try:
        listener(*words)
    except DatabaseAwayError as error:
        log.warning("%s: %s", " ".join(words), error)


@contextmanager
def signals(closing: threading.Event, *further: int) -> Iterator[list[int]]:
    """Within the block SIGTERM, Ctrl-C and any `further` signals set `closing`; those that came are in the list.

    A second Ctrl-C raises KeyboardInterrupt: what is trained is left where it is.
    """
    came: list[int] = []

    def take(number: int, _: Any) -> None:
        again = number == signal.SIGINT and number in came
        came.append(number)
        closing.set()
        if again:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, take) for number in (signal.SIGTERM, signal.SIGINT, *further)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def close_with_input(closing: threading.Event) -> None:
    """Sets `closing` when standard input ends: whoever started this process and held the other end is gone."""

    descriptor = sys.stdin.fileno()

    def watch() -> None:
        while os.read(descriptor, 1024):  # not by sys.stdin, whose lock must be free when the interpreter ends
            pass
        closing.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def take_device(device: str) -> None:
    """Leaves this process only the device that it is to train on: `auto` (all there are), cpu, cuda, cuda:N.

    Has to come before torch is imported, which looks at CUDA_VISIBLE_DEVICES once.

    Raises:
        UserError: another word, or a GPU that is not there.
    """
    kind, _, index = device.partition(":")
    if device in ("auto", "cuda"):
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    if kind != "cuda" or not index.isdecimal():
        raise UserError(
            "--device", f"{device[:40]!r} is no device", "choose auto, cpu, cuda, or one GPU such as cuda:1"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(int(index) + 1)] if visible is None else visible.split(",")
    if int(index) >= len(names):
        raise UserError(
            "--device", f"there is no {device}: CUDA_VISIBLE_DEVICES is {visible!r}", "choose a lower index"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = names[int(index)].strip()
