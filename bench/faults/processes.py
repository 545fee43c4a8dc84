"""Several worker processes on one queue, and one that wakes after another took its run."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from bench.faults.workers import PATIENCE, STUDENTS, WORK, cache, kill, settings, weights, worker_process

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


def processes(count: int) -> dict[str, Any]:
    """Three workers on one queue; one is killed, its run is queued again and taken by another."""
    with cache() as store:
        for seed in range(count):
            store.add_run(settings("fine-tune", seed))
        workers = [worker_process(WORK) for _ in range(3)]
        until = time.monotonic() + PATIENCE
        while not store.runs(states=["running"]).shape[0] and time.monotonic() < until:
            time.sleep(0.05)
        killed = kill(workers[0])
        interrupted = store.mark_interrupted()
        for run in interrupted:
            store.requeue(run)
        last = [worker_process(WORK)] if interrupted else []
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
    with cache() as store:
        run = store.add_run(settings("fine-tune"))
        asleep = worker_process(STOP_BEFORE_BEST, run)
        while Path(f"/proc/{asleep.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.1)
        with store.engine.begin() as connection:  # as after two minutes of sleep
            connection.exec_driver_sql("UPDATE runs SET lease_until = 0.0")
        marked = store.mark_interrupted()
        store.requeue(run)
        worker_process(WORK, run).wait(PATIENCE)
        before = {name: weights(run, name) for name in STUDENTS}
        asleep.send_signal(signal.SIGCONT)
        asleep.wait(PATIENCE)
        same = sum(weights(run, name) == before[name] for name in STUDENTS)
        return {"taken_over": len(marked), "state": store.get(run).state, "students_kept": same, "students": 2}
