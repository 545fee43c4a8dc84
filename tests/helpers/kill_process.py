"""Trainings that are killed on purpose, each in a process of its own, forked from a server that has imported all."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch

from kdcore.config import RunConfig
from kdcore.engine import checkpoint, teacher_cache
from kdcore.engine.trainer import train
from kdcore.models.students import load_classifier
from kdcore.runs import leased_run, worker
from kdcore.store import open_store
from tests.helpers import tiny_task

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["kdcore.engine.trainer", "kdcore.engine.preflight", "transformers.models.bert.modeling_bert", "evaluate"]
)


def in_a_process(task: Any, *args: Any, patience: float = 300) -> int:
    """Runs `task(*args)` in a child with the same cache; returns its exit code, -9 where it was killed."""
    child = _processes.Process(target=_live, args=(_store(), task, args))
    child.start()
    child.join(patience)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise AssertionError("the child did not end")
    return child.exitcode


def start(task: Any, *args: Any) -> Any:
    """The same, without waiting."""
    child = _processes.Process(target=_live, args=(_store(), task, args))
    child.start()
    return child


def _store() -> dict[str, str]:
    """Where this process keeps its runs: the server forked long ago, with another environment."""
    return {name: os.environ[name] for name in ("KD_CACHE_DIR", "KD_DATABASE_URL", "KD_REMOTE") if name in os.environ}


def _live(store: dict[str, str], task: Any, args: tuple[Any, ...]) -> None:
    os.environ.update(store)
    torch.set_num_threads(1)
    tiny_task.inhabit()
    task(*args)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_disturbed(settings: str, folder: Path, teacher: Path | None, events: int | None) -> None:
    """Trains while another thread loads models, predicts and uses torch's generator; is killed after so many events."""
    over = threading.Event()
    threading.Thread(target=_disturb, args=(teacher, over), daemon=True).start()
    for number, _ in enumerate(train(RunConfig.model_validate_json(settings), folder), start=1):
        if number == events:
            die()
    over.set()


def _disturb(folder: Path | None, over: threading.Event) -> None:
    """What pages may do beside a training, as often as they can."""
    ids = torch.ones(2, 8, dtype=torch.long)
    while not over.is_set():
        torch.manual_seed(random.randrange(2**31))
        torch.rand(17)
        model = load_classifier(folder) if folder else tiny_task.model()
        model.train()
        model(ids)["logits"].sum().backward()
        time.sleep(0.02)


def train_and_die_writing(settings: str, folder: Path, saves: int) -> None:
    """Is killed in the middle of the so-many-th checkpoint: some of its files are written, some are not."""
    checkpoint_die(saves)
    train_quietly(settings, folder)


def train_and_die_filling(settings: str, folder: Path, writes: int) -> None:
    """Is killed while teachers' outputs are written, after so many writes of a tensor's batch: data but no presence."""
    real, done = teacher_cache.TeacherCache._write, [0]

    def write(self: Any, tensor: Any, batch: Any, array: Any) -> None:
        done[0] += 1
        if done[0] == writes:
            real(self, tensor, batch[: len(batch) // 2], array[: len(batch) // 2])
            die()
        real(self, tensor, batch, array)

    teacher_cache.TeacherCache._write = write
    train_quietly(settings, folder)


def train_quietly(settings: str, folder: Path) -> None:
    for _ in train(RunConfig.model_validate_json(settings), folder):
        pass


def checkpoint_die(saves: int) -> None:
    """From now on the so-many-th checkpoint of this process is its last, half written."""
    real, done = checkpoint.save_file, [0]

    def save_file(tensors: Any, path: Path) -> None:
        real(tensors, path)
        done[0] += path.name == "module-student.safetensors"
        if done[0] == saves:
            die()

    checkpoint.save_file = save_file


def work_and_die_at_checkpoint(run_id: str, number: int) -> None:
    """A worker that trains a queued run is killed right after its so-many-th checkpoint got its name.

    Nothing is written by the clock here, so what is in the store was written because of the checkpoint.
    """
    real, done = Path.rename, [0]

    def rename(self: Path, target: Any) -> Any:
        moved = real(self, target)
        done[0] += self.name.endswith(".partial") and self.parent.parent.name == run_id
        if done[0] == number:
            die()
        return moved

    leased_run.FLUSH_SECONDS = 3600.0
    Path.rename = rename
    work(run_id)


def work(run_id: str, again: bool = False) -> None:
    """Trains a queued run as the background worker does; again: as one beside others, which it may leave the run to."""
    mine = worker.Worker(open_store(), "auto", again=again)
    assert mine.take(run_id)
    mine.drive(run_id)
