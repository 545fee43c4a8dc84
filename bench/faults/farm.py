"""A farm whose workers, and which itself, are killed: each run is done once, with the weights of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

from bench.faults.kills import UNFINISHED
from bench.faults.workers import PATIENCE, STUDENTS, WORK, cache, points_of, settings, weights, worker_process
from kdcore.paths import run_dir
from kdcore.store import Store

KILL_STEP = 25
"""A worker is killed once its run has passed this step: behind a checkpoint, and before the next."""


def farm(count: int, database: str = "", methods: tuple[str, ...] = ("fine-tune", "kd")) -> dict[str, Any]:
    """So many runs in two slots. A training process is killed, then the farm; a second farm does what is left."""
    with cache(database) as store:
        chosen = [settings(methods[seed % len(methods)], seed) for seed in range(count)]
        whole = [store.add_run(run) for run in chosen]
        worker_process(WORK).wait(PATIENCE)
        runs = [store.add_run(run) for run in chosen]
        killed: list[str] = []
        first = _start()
        wait(lambda: bool(trained(store, runs, killed)))
        kill_a_worker(store, runs, killed)
        wait(lambda: len(trained(store, runs, killed)) >= 1 or not _left(store, runs))
        workers = psutil.Process(first.pid).children(recursive=True) if first.poll() is None else []
        first.kill()
        first.wait()
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
        waiting = len(_left(store, runs))
        second = _start()
        second.wait(PATIENCE)
        pairs = list(zip(runs, whole, strict=True))
        return {
            "runs": count, "workers_killed": len(killed), "waiting_when_the_farm_was_killed": waiting,
            "done": sum(store.get(run).state == "done" for run in runs), "farm_ended_with": second.returncode,
            "endings": sum(endings(run) for run in runs),
            "resumed": sum(bool(store.get(run).facts.get("resumed_at")) for run in runs),
            "students": len(STUDENTS) * count,
            "students_equal": sum(weights(a, name) == weights(b, name) != b"" for a, b in pairs for name in STUDENTS),
            "points_that_differ": sum(points_of(store, a) != points_of(store, b) for a, b in pairs),
            "processes_left": len(alive), "leases_left": len(store.active()),
            "folders_left": sum(path.suffix in UNFINISHED for run in runs for path in run_dir(run).rglob("*")),
        }  # fmt: skip


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kdcore", "farm", "here", "--slots", "2", "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def kill_a_worker(store: Store, runs: list[str], killed: list[str]) -> None:
    """Kills the process that trains the first of these runs with a checkpoint, and adds the run to `killed`."""
    with store.engine.connect() as connection:
        for run in trained(store, runs, killed)[:1]:
            pid = connection.exec_driver_sql(f"SELECT pid FROM runs WHERE id = '{run}'").scalar()
            if pid:
                os.kill(int(pid), signal.SIGKILL)
                killed.append(run)


def trained(store: Store, runs: list[str], but: list[str]) -> list[str]:
    """Those of the runs that are under way and have a checkpoint."""
    rows = store.rows([run for run in runs if run not in but])
    return [run for run, row in rows.items() if row.active and (row.progress.get("step") or 0) >= KILL_STEP]


def _left(store: Store, runs: list[str]) -> list[str]:
    return [run for run, row in store.rows(runs).items() if row.state != "done"]


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds, or so long that something is broken."""
    until = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)


def endings(run: str) -> int:
    """How often the run's log says that it finished."""
    log = run_dir(run) / "log.txt"
    return sum("finished" in line for line in log.read_text().splitlines()) if log.exists() else 0
