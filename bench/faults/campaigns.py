"""The campaigns. Runs are those of the demo's size: one layer, one teacher of the pocket ladder."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.paths import cache_dir, run_dir
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
STOP_BEFORE_BEST = (
    """
import os, signal
from kdcore.runs.worker import LeasedRun
real, done = LeasedRun.before_saving, []
def stop_once(self):
    if not done:
        done.append(os.kill(os.getpid(), signal.SIGSTOP))
    real(self)
LeasedRun.before_saving = stop_once
"""
    + WORK
)
ENSEMBLES = ("skd", "wkd")
OPTIONS: dict[str, dict[str, Any]] = {"skd": {"sampling": "student-rank"}}  # with pilot students
UNFINISHED = (".writing", ".partial")
STUDENTS = ("student-best", "student-last")
PATIENCE = 600.0


def settings(method: str, seed: int = 0) -> RunConfig:
    teachers = [] if method == "fine-tune" else [{"name": "small", "source": "pocket", "where": "small"}]
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


def kills(method: str, count: int, seed: int, database: str = "") -> dict[str, Any]:
    """Runs of one configuration, killed at random moments and resumed, beside the same run undisturbed.

    As many runs as `count` kills of a living process need; each starts without its teachers and their outputs, so that
    their making is met, too.
    """
    chance = random.Random(f"{method} {seed}")
    with _cache(database) as store:
        whole = store.add_run(settings(method, seed))
        worker = _worker(WORK, whole)
        _wait_for_start(store, whole, worker)
        began = time.monotonic()
        worker.wait(PATIENCE)
        span, phases, runs, stuck = time.monotonic() - began, Counter[str](), [], 0
        while phases.total() < count:
            for folder in ("teachers", "outputs"):
                shutil.rmtree(cache_dir() / folder, ignore_errors=True)
            runs.append(store.add_run(settings(method, seed)))
            stuck += _kill_often(store, runs[-1], span, count - phases.total(), chance, phases)
        points = _points(store, whole)
        again = [_points(store, run) for run in runs]
        return {
            "killed": phases.total(), "during": dict(sorted(phases.items())), "runs": len(runs),
            "done": sum(store.get(run).state == "done" for run in runs), "stuck_leases": stuck,
            "students": len(runs) * len(STUDENTS),
            "students_equal": sum(_weights(run, name) == _weights(whole, name) for run in runs for name in STUDENTS),
            "points": len(points) * len(runs), "points_lost": sum(len(points.keys() - one.keys()) for one in again),
            "points_that_differ": sum(one.get(key, value) != value for one in again for key, value in points.items()),
            "evaluations_that_differ": sum(_evaluations(store, run) != _evaluations(store, whole) for run in runs),
            "folders_left": sum(path.suffix in UNFINISHED for run in runs for path in run_dir(run).rglob("*")),
            "database_check": _database_check(store),
        }  # fmt: skip


def _kill_often(store: Store, run: str, span: float, most: int, chance: random.Random, phases: Counter[str]) -> int:
    """Kill the run's worker and resume the run, until it was killed `most` times or is done: how many leases stuck.

    phases: what the run was doing -> kills, counted up here.
    """
    stuck = 0
    for _ in range(most):
        worker = _worker(WORK, run)
        _wait_for_start(store, run, worker)
        time.sleep(chance.uniform(0, 0.9) * span)
        doing = _phase(store, run)
        if _kill(worker):
            phases[doing] += 1
        if store.get(run).state == "done":
            return stuck
        store.mark_interrupted()
        stuck += store.get(run).active
        if store.get(run).state == "interrupted":
            store.requeue(run)
    _worker(WORK, run).wait(PATIENCE)
    return stuck


def _wait_for_start(store: Store, run: str, worker: subprocess.Popen[bytes]) -> None:
    while not store.get(run).active and worker.poll() is None:
        time.sleep(0.02)


def _phase(store: Store, run: str) -> str:
    """What the run's row says it does: a stage, or what its long phases name; without counts and names."""
    row = store.get(run)
    doing = row.progress.get("what") or row.progress.get("stage") or row.state
    return re.sub(r"[\d(:].*$", "", str(doing)).strip()


def processes(count: int) -> dict[str, Any]:
    """Three workers on one queue; one is killed, its run is queued again and taken by another."""
    with _cache() as store:
        for seed in range(count):
            store.add_run(settings("fine-tune", seed))
        workers = [_worker(WORK) for _ in range(3)]
        until = time.monotonic() + PATIENCE
        while not store.runs(states=["running"]).shape[0] and time.monotonic() < until:
            time.sleep(0.05)
        killed = _kill(workers[0])
        interrupted = store.mark_interrupted()
        for run in interrupted:
            store.requeue(run)
        last = [_worker(WORK)] if interrupted else []
        for worker in (*workers, *last):
            worker.wait(PATIENCE)
        frame = store.runs()
        points = [sorted(store.metrics(run, kinds=["loss"]).step) for run in frame["id"]]
        return {
            "runs": count, "killed": killed, "interrupted": len(interrupted), "done": list(frame.state).count("done"),
            "points_lost": sum(len(set(range(1, 61)) - set(steps)) for steps in points),
            "points_doubled": sum(len(steps) - len(set(steps)) for steps in points),
        }  # fmt: skip


def zombie() -> dict[str, Any]:
    """A worker that is stopped before it saves its first student, and wakes when another has ended the run."""
    with _cache() as store:
        run = store.add_run(settings("fine-tune"))
        asleep = _worker(STOP_BEFORE_BEST, run)
        while Path(f"/proc/{asleep.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.1)
        with store.engine.begin() as connection:  # as after two minutes of sleep
            connection.exec_driver_sql("UPDATE runs SET lease_until = 0.0")
        marked = store.mark_interrupted()
        store.requeue(run)
        _worker(WORK, run).wait(PATIENCE)
        before = {name: _weights(run, name) for name in STUDENTS}
        asleep.send_signal(signal.SIGCONT)
        asleep.wait(PATIENCE)
        same = sum(_weights(run, name) == before[name] for name in STUDENTS)
        return {"taken_over": len(marked), "state": store.get(run).state, "students_kept": same, "students": 2}


def damage(count: int, seed: int) -> dict[str, Any]:
    """Files of a finished run, damaged one at a time, then read as the pages read them."""
    from kdcore.engine.run_files import predictions
    from kdcore.models.students import load_classifier

    chance, answers = random.Random(seed), {"named": 0, "unnoticed": 0, "raw_error": 0}
    with _cache() as store:
        run = store.add_run(settings("fine-tune"))
        _worker(WORK, run).wait(PATIENCE)
        folder = run_dir(run)
        files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".safetensors", ".npz")]
        for _ in range(count):
            path = chance.choice(files)
            whole = path.read_bytes()
            path.write_bytes(_hurt(whole, chance))
            try:
                load_classifier(path.parent) if path.name == "model.safetensors" else predictions(folder)
                answers["unnoticed"] += 1
            except UserError:
                answers["named"] += 1
            except Exception:
                answers["raw_error"] += 1
            path.write_bytes(whole)
    return {"damages": count, **answers}


def _hurt(content: bytes, chance: random.Random) -> bytes:
    how, at = chance.choice(("cut", "flip", "zero")), chance.randrange(len(content))
    if how == "cut":
        return content[:at]
    hurt = bytearray(content)
    hurt[at : at + (1 if how == "flip" else 64)] = (
        bytes([hurt[at] ^ 255]) if how == "flip" else bytes(len(hurt[at : at + 64]))
    )
    return bytes(hurt)


@contextmanager
def _cache(database: str = "") -> Iterator[Store]:
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


def _worker(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)


def _kill(worker: subprocess.Popen[bytes]) -> int:
    """1 where it still lived."""
    alive = worker.poll() is None
    worker.kill()
    worker.wait()
    return int(alive)


def _weights(run: str, name: str) -> bytes:
    path = run_dir(run) / name / "model.safetensors"
    return path.read_bytes() if path.is_file() else b""


def _points(store: Store, run: str) -> dict[tuple[str, int, str, str], float]:
    """(stage, step, kind, name) -> value of what follows from the settings: times differ between runs."""
    frame = store.metrics(run, kinds=["loss", "raw", "weighted", "lr", "gradient_norm"])
    columns = (frame[name] for name in ("stage", "step", "kind", "name", "value"))
    return {(stage, step, kind, name): value for stage, step, kind, name, value in zip(*columns, strict=True)}


def _evaluations(store: Store, run: str) -> list[tuple[Any, ...]]:
    frame = store.evaluations(run)
    return sorted(frame[["stage", "step", "split", "which", "metric", "value"]].itertuples(index=False, name=None))


def _database_check(store: Store) -> str:
    """SQLite's own check of its file; of a server, that each point has one row."""
    if store.engine.dialect.name == "sqlite":
        with store.engine.connect() as connection:
            return str(connection.exec_driver_sql("PRAGMA integrity_check").scalar())
    with store.engine.connect() as connection:
        doubled = connection.exec_driver_sql(
            "SELECT count(*) - count(DISTINCT (run, stage, step, kind, name)) FROM metrics"
        ).scalar()
    return f"{doubled} points doubled"
