"""Runs an hour of one worker with all cores against several workers that share them.

    python -m bench.throughput [--workers 1 2] [--runs 8] [--steps 200] [--rounds 2]

A small study: fine-tuning and KD of a pocket task in turn, one seed after another; the teacher is made, and the queue
drained once, before. Each number of workers drains a new queue in each round, in turn, so that drift of the machine
meets all alike. Printed as JSON with the load that the machine had before and after each: other work beside this one
makes the figures worthless, and no figure is written down that was not measured on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil

from bench.faults.workers import cache
from kdcore.config import RunConfig
from kdcore.engine.device import hardware
from kdcore.runs.farm import Here, keep
from kdcore.store import Store


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args(arguments)
    with cache() as store:
        _drain(store, 1, 2, chosen.steps)  # makes the teacher and keeps its answers
        blocks = [
            _drain(store, workers, chosen.runs, chosen.steps) | {"round": number}
            for number in range(1, chosen.rounds + 1)
            for workers in chosen.workers
        ]
    by_workers = {str(one): [b["runs_per_hour"] for b in blocks if b["workers"] == one] for one in chosen.workers}
    print(
        json.dumps(
            {
                "hardware": hardware("cpu"), "cores": psutil.cpu_count(logical=False), "steps": chosen.steps,
                "median_runs_per_hour": {one: statistics.median(rates) for one, rates in by_workers.items()},
                "blocks": blocks,
            },
            indent=1,
        )
    )  # fmt: skip


def _drain(store: Store, workers: int, count: int, steps: int) -> dict[str, Any]:
    """Trains so many runs, from the start of the first worker to the end of the last."""
    runs = [store.add_run(_run(number, steps)) for number in range(count)]
    place, load, began = Here(workers, "cpu"), os.getloadavg()[0], time.perf_counter()
    keep(store, place, threading.Event())
    seconds = time.perf_counter() - began
    rows = store.rows(runs).values()
    assert {row.state for row in rows} == {"done"}, [row.reason for row in rows]
    return {
        "workers": workers, "threads": sorted({row.facts["threads"] for row in rows}), "runs": count,
        "seconds": seconds, "runs_per_hour": 3600 * count / seconds,
        "seconds_of_a_run": statistics.median(row.summary["seconds"] for row in rows),
        "load_before": load, "load_after": os.getloadavg()[0],
    }  # fmt: skip


def _run(number: int, steps: int) -> RunConfig:
    method = ("fine-tune", "kd")[number % 2]
    teachers = [{"name": "small", "source": "pocket", "where": "small"}] if method == "kd" else []
    student = {"layers": 2, "width": 64, "heads": 4, "init": "random"}
    train = {"max_steps": steps, "max_length": 32, "seed": number // 2, "evaluate_every": steps, "device": "cpu"}
    return RunConfig.model_validate(
        {"task": "pocket-sentiment", "method": method, "teachers": teachers, "student": student, "train": train,
         "probes": {"latency": False, "distances": False}}
    )  # fmt: skip


if __name__ == "__main__":
    main()
