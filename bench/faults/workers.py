"""Worker processes of the demo's size, and what their runs leave: shared by the campaigns."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kdcore.config import RunConfig
from kdcore.paths import run_dir
from kdcore.store import Store, open_store

WORK = """
import sys
from kdcore.runs.worker import Worker
from kdcore.store import open_store
worker = Worker(open_store(), "auto")
wanted = sys.argv[1] if len(sys.argv) > 1 else None
while (run := worker.take(wanted)) is not None:
    worker.drive(run)
"""
ENSEMBLES = ("skd", "wkd")
OPTIONS: dict[str, dict[str, Any]] = {"skd": {"sampling": "student-rank"}}  # with pilot students
STUDENTS = ("student-best", "student-last")
PATIENCE = 600.0


def settings(method: str, seed: int = 0) -> RunConfig:
    size = "large" if method == "takd" else "small"  # an assistant stands between teacher and student
    teachers = [] if method == "fine-tune" else [{"name": size, "source": "pocket", "where": size}]
    if method in ENSEMBLES:
        teachers.append({"name": "medium", "source": "pocket", "where": "medium"})
    student = {"layers": 2, "width": 64, "heads": 4, "init": "random"}
    train = {"max_steps": 60, "max_train_rows": 640, "max_length": 32, "threads": 1, "seed": seed, "log_every": 1,
             "checkpoint_every": 10, "evaluate_every": 10, "precision": "fp32", "device": "cpu"}  # fmt: skip
    probes = {"latency": False, "distances": False}
    return RunConfig.model_validate(
        {"task": "pocket-sentiment", "method": method, "teachers": teachers, "student": student, "train": train,
         "probes": probes, "options": OPTIONS.get(method, {})}
    )  # fmt: skip


@contextmanager
def cache(database: str = "") -> Iterator[Store]:
    """A cache folder of its own; database: an address in place of SQLite's file in it."""
    before = {name: os.environ.pop(name, None) for name in ("KD_CACHE_DIR", "KD_DATABASE_URL")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KD_CACHE_DIR"] = folder
        if database:
            os.environ["KD_DATABASE_URL"] = database
        try:
            yield open_store()
        finally:
            os.environ.pop("KD_CACHE_DIR")
            os.environ.pop("KD_DATABASE_URL", None)
            os.environ.update({name: value for name, value in before.items() if value is not None})


def worker_process(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)


def kill(worker: subprocess.Popen[bytes]) -> int:
    """1 where it still lived."""
    alive = worker.poll() is None
    worker.kill()
    worker.wait()
    return int(alive)


def weights(run: str, name: str) -> bytes:
    path = run_dir(run) / name / "model.safetensors"
    return path.read_bytes() if path.is_file() else b""


def points_of(store: Store, run: str) -> dict[tuple[str, int, str, str], float]:
    """(stage, step, kind, name) -> value of what follows from the settings: times differ between runs."""
    frame = store.metrics(run, kinds=["loss", "raw", "weighted", "lr", "gradient_norm"])
    columns = (frame[name] for name in ("stage", "step", "kind", "name", "value"))
    return {(stage, step, kind, name): value for stage, step, kind, name, value in zip(*columns, strict=True)}
