"""SIGKILL at random moments of every phase."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from collections import Counter
from typing import Any

from bench.faults.workers import PATIENCE, STUDENTS, WORK, cache, kill, points_of, settings, weights, worker_process
from kdcore.paths import cache_dir, run_dir
from kdcore.store import Store

UNFINISHED = (".writing", ".partial")


def kills(method: str, count: int, seed: int, database: str = "") -> dict[str, Any]:
    """Runs of one configuration, killed at random moments and resumed, beside the same run undisturbed.

    As many runs as `count` kills of a living process need; each starts without its teachers and their outputs, so that
    their making is met, too.
    """
    chance = random.Random(f"{method} {seed}")
    with cache(database) as store:
        whole = store.add_run(settings(method, seed))
        worker = worker_process(WORK, whole)
        _wait_for_start(store, whole, worker)
        began = time.monotonic()
        worker.wait(PATIENCE)
        span, phases, runs, stuck = time.monotonic() - began, Counter[str](), [], 0
        while phases.total() < count:
            for folder in ("teachers", "outputs"):
                shutil.rmtree(cache_dir() / folder, ignore_errors=True)
            runs.append(store.add_run(settings(method, seed)))
            stuck += _kill_often(store, runs[-1], span, count - phases.total(), chance, phases)
        points = points_of(store, whole)
        again = [points_of(store, run) for run in runs]
        return {
            "killed": phases.total(), "during": dict(sorted(phases.items())), "runs": len(runs),
            "done": sum(store.get(run).state == "done" for run in runs), "stuck_leases": stuck,
            "students": len(runs) * len(STUDENTS),
            "students_equal": sum(weights(run, name) == weights(whole, name) for run in runs for name in STUDENTS),
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
        worker = worker_process(WORK, run)
        _wait_for_start(store, run, worker)
        time.sleep(chance.uniform(0, 0.9) * span)
        doing = _phase(store, run)
        if kill(worker):
            phases[doing] += 1
        if store.get(run).state == "done":
            return stuck
        store.mark_interrupted()
        stuck += store.get(run).active
        if store.get(run).state == "interrupted":
            store.requeue(run)
    worker_process(WORK, run).wait(PATIENCE)
    return stuck


def _wait_for_start(store: Store, run: str, worker: subprocess.Popen[bytes]) -> None:
    while not store.get(run).active and worker.poll() is None:
        time.sleep(0.02)


def _phase(store: Store, run: str) -> str:
    """What the run's row says it does: a stage, or what its long phases name; without counts and names."""
    row = store.get(run)
    doing = row.progress.get("what") or row.progress.get("stage") or row.state
    return re.sub(r"[\d(:].*$", "", str(doing)).strip()


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
