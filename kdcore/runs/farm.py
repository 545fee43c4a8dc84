"""Several workers at once: keeps as many of them at work in a place as there are runs, until none is left.

A place starts workers, never runs. A worker takes what is first in the store's queue, so order, cancel and stop work as
ever, and a worker that is lost costs no run: it is taken up from its checkpoint.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kdcore.errors import DatabaseAwayError, UserError
from kdcore.paths import python_path
from kdcore.runs.leased_run import PATIENCE, Outage

if TYPE_CHECKING:
    from kdcore.store import Store

CPU_WORKERS = 2
"""Workers at once where there is no GPU and no number was asked for; `bench/throughput.py` compares it with one."""
LOOK_SECONDS = 1.0
MOST_CRASHES = 3
"""Workers in a row that ended by themselves and took no run with them; then the farm gives up."""


log = logging.getLogger("kdcore.runs.farm")


class Place(Protocol):
    """Where workers run. What `start` returns stands for one worker in the other calls."""

    slots: int

    def start(self) -> Any:
        """Starts a worker that trains what waits in the queue and ends when there is nothing for it."""

    def ended(self, worker: Any) -> int | None:
        """The exit code of a worker that ended, 0 where all went well; None while it works."""

    def leave(self, worker: Any) -> None:
        """Asks the worker to write a checkpoint, give its run back and end."""

    def kill(self, worker: Any) -> None:
        """Ends the worker at once."""


@dataclass
class Crew:
    """The workers of a farm, and what they have left in the queue because it is not for them.

    seen: what waited when the farm looked last.
    """

    workers: list[Any] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    crashes: int = 0


@dataclass(frozen=True)
class Queue:
    """What a farm sees of the queue. lost: ids that wait again, as their worker is gone. busy: runs under way."""

    lost: list[str]
    waiting: set[str]
    busy: int


def keep(
    store: Store, place: Place, closing: threading.Event, on_lost: Callable[[list[str]], None] = lambda runs: None
) -> list[str]:
    """Keeps workers at work until the queue has nothing for them, or `closing` is set and they have left.

    on_lost: is told the ids of runs whose worker was lost, when they wait again.

    Returns ids of the runs that still wait: for another device, or more memory.

    Raises:
        UserError: workers end as soon as they are started. DatabaseAwayError: it has not answered for ten minutes.
    """
    crew, reached, outage = Crew(), time.monotonic(), Outage(log)
    try:
        while not closing.is_set():
            codes = _collect(place, crew)
            try:
                queue = _look(store)
                reached = time.monotonic()
                outage.end()
            except DatabaseAwayError as error:  # workers that end meanwhile say nothing of the runs, or of themselves
                if time.monotonic() - reached >= PATIENCE:
                    raise
                outage.tell(error)
            else:
                if queue.lost:
                    on_lost(queue.lost)
                if not _staff(place, crew, queue, codes):
                    break
            closing.wait(LOOK_SECONDS)
    finally:
        _end(place, crew)
    return store.waiting()


def _look(store: Store) -> Queue:
    lost = store.take_up()
    return Queue(lost, set(store.waiting()), len(store.active()))


def _staff(place: Place, crew: Crew, queue: Queue, codes: list[int]) -> bool:
    """Starts the workers that are wanted; False where the farm is over. codes: of those that ended since the last look.

    Raises:
        UserError: workers end as soon as they are started.
    """
    if 0 in codes:  # it took nothing of what waited before and waits now
        crew.refused |= crew.seen & queue.waiting
    crew.refused -= set(queue.lost)
    moves = 0 in codes or queue.lost or crew.seen - queue.waiting
    crew.crashes = 0 if moves else crew.crashes + len(codes)
    if crew.crashes >= MOST_CRASHES:
        raise UserError("farm", "workers end as soon as they start", "`kdcore work` in their place tells why")
    wanted = queue.waiting - crew.refused
    if not crew.workers and not wanted:
        return False
    for _ in range(min(place.slots, len(wanted) + queue.busy) - len(crew.workers)):
        crew.workers.append(place.start())
    crew.seen = queue.waiting
    return True


def _collect(place: Place, crew: Crew) -> list[int]:
    """Exit codes of the workers that ended since the last look; they are no longer in the crew."""
    ended = [(worker, place.ended(worker)) for worker in crew.workers]
    crew.workers = [worker for worker, code in ended if code is None]
    return [code for _, code in ended if code is not None]


def _end(place: Place, crew: Crew, patience: float = 60.0) -> None:
    """All workers leave; those that do not within so many seconds are killed."""
    over = threading.Event()
    for worker in crew.workers:
        place.leave(worker)
    try:
        for _ in range(int(patience * 10)):
            _collect(place, crew)
            if not crew.workers:
                return
            over.wait(0.1)
    finally:
        for worker in crew.workers:
            place.kill(worker)


@dataclass(frozen=True)
class Child:
    """A worker of `Here` and the slot that it has."""

    slot: int
    process: subprocess.Popen[bytes]


class Here:
    """Child processes on this computer, each with one GPU of its own, or with its share of the processor's cores."""

    def __init__(self, slots: int | None = None, device: str = "auto", program: Sequence[str] = ()) -> None:
        """slots: workers at once; default: one for each GPU, or two. program: what starts a worker, for tests.

        Raises:
            UserError: a GPU was asked for and none is seen.
        """
        import psutil

        gpus = visible_gpus() if device != "cpu" else []
        if device == "cuda" and not gpus:
            raise UserError("--device", "no CUDA device is seen", "choose auto or cpu")
        self.gpus = gpus
        self.slots = slots or len(gpus) or CPU_WORKERS
        self._program = list(program) or [sys.executable, "-m", "kdcore"]
        self._threads = max(1, (psutil.cpu_count(logical=False) or 1) // self.slots)
        self._memory = psutil.virtual_memory().total / self.slots / 2**30
        self._children: list[Child] = []

    def start(self) -> Child:
        taken = {child.slot for child in self._children if child.process.poll() is None}
        slot = next(number for number in range(self.slots) if number not in taken)
        own = {"OMP_NUM_THREADS": str(self._threads), "PYTHONPATH": python_path()}
        own["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)] if self.gpus else ""
        device = "cuda" if self.gpus else "cpu"
        command = [*self._program, "work", "--tied", "--idle", "0", "--device", device]
        command += ["--memory", f"{max(self._memory, 0.1):.1f}"]
        # its standard input ends with this process, however that ends, and the worker with it
        child = Child(slot, subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | own))
        self._children = [*(one for one in self._children if one.process.poll() is None), child]
        return child

    def ended(self, worker: Child) -> int | None:
        code = worker.process.poll()
        if code is not None and worker.process.stdin is not None:
            worker.process.stdin.close()
        return code

    def leave(self, worker: Child) -> None:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGTERM)

    def kill(self, worker: Child) -> None:
        worker.process.kill()
        worker.process.wait()


def visible_gpus() -> list[str]:
    """The GPUs that a process started here would see, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:count] if named else [str(number) for number in range(count)]
