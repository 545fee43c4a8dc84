"""Runs an hour of a study: one worker with all cores against several workers that share them.

    python -m bench.throughput [--workers 1 2] [--rounds 3] [--steps 200] [--seeds 3]

The study: twelve methods of a pocket task, three seeds of each, in one queue. Teachers and their kept answers are made
before, by a short run of each method. A block drains the queue once, from the start of the first worker to the end of
the last; a worker takes one run after another, with its share of the `--threads`. The ratio is that of the last number
of workers to the first, in runs an hour, within each round. Only a quiet machine gives figures worth keeping.
Writes bench/results/throughput.json, from which the default of `kdcore farm here` follows (`runs.farm.CPU_WORKERS`).
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bench.faults.workers import cache
from bench.timing_blocks import Arm, Figures, command_line, figures, parse_options, ratios, spread, start_bench
from kdcore.config import RunConfig
from kdcore.runs.farm import Here, keep
from kdcore.store import open_store

METHODS: Mapping[str, tuple[str, ...]] = {
    "fine-tune": (), "kd": ("large",), "distilbert": ("large",), "pkd": ("large",),
    "skd": ("large", "medium", "small"), "wkd": ("large", "medium", "small"), "takd": ("large",), "pea-kd": ("large",),
    "tinybert": ("large",), "minilm": ("large",), "minilm-v2": ("large",), "mlkd": ("large",),
}  # fmt: skip
"""Method -> the pocket teachers it learns from."""
QUICK = ("fine-tune",)  # without teachers, whose training takes most of such a start


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__doc__, rounds=3)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="numbers of workers to compare; 1 2")
    parser.add_argument("--steps", type=int, help="of each run; 200")
    parser.add_argument("--seeds", type=int, help="of each method; 3")
    options = parse_options(parser, arguments)
    methods = QUICK if options.quick else tuple(METHODS)
    steps, seeds = options.steps or (4 if options.quick else 200), options.seeds or (2 if options.quick else 3)
    bench = start_bench("throughput", arguments, options, methods=methods, steps=steps, seeds=seeds)
    with cache():
        _drain(1, options.threads, [_run(method, 0, 2, options.threads) for method in methods])
        blocks = bench.in_turn(_arms(options.workers, options.threads, methods, steps, seeds), options.rounds)
    summary = _summary(blocks, options.workers)
    print(f"{name_of(options.workers[-1])} / {name_of(options.workers[0])}: {summary['ratio']}")
    bench.finish(summary, blocks)


def name_of(workers: int) -> str:
    """Of the arm with so many workers."""
    return f"{workers} worker" if workers == 1 else f"{workers} workers"


def _arms(numbers: Sequence[int], cores: int, methods: Sequence[str], steps: int, seeds: int) -> dict[str, Arm]:
    arms: dict[str, Arm] = {}
    for workers in numbers:
        threads = max(1, cores // workers)
        study = [_run(method, seed, steps, threads) for seed in range(seeds) for method in methods]
        arms[name_of(workers)] = partial(_drain, workers, threads, study)
    return arms


def _summary(blocks: Sequence[Figures], numbers: Sequence[int]) -> dict[str, Any]:
    rates = {workers: figures(blocks, name_of(workers), "runs_per_hour") for workers in numbers}
    return {
        "runs_per_hour": {name_of(workers): spread(rate) for workers, rate in rates.items()},
        "ratio": ratios(rates[numbers[-1]], rates[numbers[0]]),
        "best": max(numbers, key=lambda workers: statistics.median(rates[workers])),
    }


def _drain(workers: int, threads: int, study: Sequence[RunConfig]) -> Figures:
    """Trains these runs, from the start of the first worker to the end of the last."""
    store = open_store()
    runs = [store.add_run(run) for run in study]
    began = time.perf_counter()
    keep(store, Here(workers, "cpu"), threading.Event())
    seconds = time.perf_counter() - began
    rows = store.rows(runs).values()
    if unfinished := [f"{row.id} is {row.state}: {row.reason}" for row in rows if row.state != "done"]:
        raise RuntimeError("; ".join(unfinished))
    return {
        "workers": workers, "threads": threads, "runs": len(runs), "seconds": seconds,
        "runs_per_hour": 3600 * len(runs) / seconds,
        "median_seconds_of_a_run": statistics.median(row.summary["seconds"] for row in rows),
    }  # fmt: skip


def _run(method: str, seed: int, steps: int, threads: int) -> RunConfig:
    teachers = [{"name": name, "source": "pocket", "where": name} for name in METHODS[method]]
    train = {"max_steps": steps, "max_length": 32, "lr": 1e-3, "seed": seed, "threads": threads, "device": "cpu",
             "evaluate_every": steps}  # fmt: skip
    return RunConfig.model_validate(
        {"task": "pocket-sentiment", "method": method, "teachers": teachers, "train": train,
         "student": {"layers": 2, "width": 64, "heads": 4, "intermediate": 128, "init": "random"},
         "probes": {"latency": False, "distances": False}}
    )  # fmt: skip


if __name__ == "__main__":
    main()
