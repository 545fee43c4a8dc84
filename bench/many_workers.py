"""What a hundred workers ask of the database: claims, points and leases, and how long a page waits meanwhile.

    python -m bench.many_workers [--workers 100] [--processes 10] [--runs 1000] [--seconds 30]
        [--database postgresql+psycopg://...]

No model is trained: a training only says its steps. Workers are threads of a few processes, each with its own lease and
its own timer. First they drain a queue of empty runs: claims a second, each with the first and last words of its run.
Then each trains one run, four steps a second, written twice a second as ever: how many writes the database takes, how
long one takes, how much of the processor the workers and a server take, and how long the queries of two pages take
beside it, once a second: All runs (`Store.runs`), and Running (`Store.metrics` of one run). A PostgreSQL server needs
`max_connections` for them all: twice the workers. Adds the kind of database to bench/results/many-workers.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.faults.workers import cache
from bench.timing_blocks import RESULTS, command, machine
from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.events import Event, RunFinished, RunStarted, StepDone
from kdcore.runs.worker import Worker
from kdcore.store import Store, open_store

STEP_SECONDS = 0.25
CAN = {"auto": 1e15, "cpu": 1e15}
_spawned = multiprocessing.get_context("spawn")


@dataclass
class Times:
    """Seconds that calls took, by name, and errors; from any thread."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        def inner(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            except UserError as error:
                self.errors.append(str(error)[:120])
                raise
            finally:
                self.seconds.setdefault(name, []).append(time.perf_counter() - began)

        return inner

    def add(self, other: Times) -> None:
        for name, values in other.seconds.items():
            self.seconds.setdefault(name, []).extend(values)
        self.errors.extend(other.errors)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--processes", type=int, default=10, help="that the workers are threads of")
    parser.add_argument("--runs", type=int, default=1000, help="empty ones, for the claims")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the trainings")
    parser.add_argument("--database", default="", help="an address in place of a new SQLite file")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    load = round(os.getloadavg()[0], 2)
    with cache(options.database) as store:
        counts = {
            "claiming": _claiming(store, options.workers, options.processes, options.runs),
            "training": _training(store, options.workers, options.processes, options.seconds),
        }
        kind = store.engine.dialect.name
    about = {"command": _without_address(command("many_workers", arguments)), **machine(1), "load_before": load}
    target = options.into / "many-workers.json"
    kept = json.loads(target.read_text()) if target.exists() else {}
    target.write_text(json.dumps({**kept, kind: {**about, "workers": options.workers, **counts}}, indent=1) + "\n")
    print(kind, json.dumps(counts, indent=1))


def _claiming(store: Store, workers: int, processes: int, count: int) -> dict[str, Any]:
    runs = [store.add_run(_run(number)) for number in range(count)]
    times, seconds = _in_processes(_claim, workers, processes, 0.0)
    done = sum(row.state == "done" for row in store.rows(runs).values())
    return {
        "runs": count, "done": done, "claims": len(times.seconds["claim"]) - workers, "seconds": round(seconds, 2),
        "claims_per_second": round(count / seconds, 1), "claim_ms": _spread(times.seconds["claim"]),
        "errors": len(times.errors),
    }  # fmt: skip


def _training(store: Store, workers: int, processes: int, seconds: float) -> dict[str, Any]:
    alone = _page_times(store, over=threading.Event(), rounds=10)
    runs = [store.add_run(_run(number)) for number in range(workers)]
    over, pages, before = threading.Event(), list[Times](), _server_seconds(store)
    watcher = threading.Thread(target=lambda: pages.append(_page_times(store, over)))
    watcher.start()
    times, took = _in_processes(_train, workers, processes, seconds)
    over.set()
    watcher.join()
    rows = store.rows(runs).values()
    planned = round(seconds / STEP_SECONDS)
    return {
        "runs": workers, "done": sum(row.state == "done" for row in rows), "seconds": round(took, 2),
        "planned_seconds": seconds, "steps_written": sum(row.progress.get("step", 0) for row in rows),
        "steps": planned * workers, "errors": len(times.errors),
        "writes_per_second": round((len(times.seconds["record"]) + len(times.seconds.get("renew", []))) / took, 1),
        "record_ms": _spread(times.seconds["record"]), "renew_ms": _spread(times.seconds.get("renew", [])),
        "worker_cores": round(sum(times.seconds["processor"]) / took, 2),
        "server_cores": round((_server_seconds(store) - before) / took, 2),
        "page_ms": {name: _spread(values) for name, values in pages[0].seconds.items()},
        "page_ms_alone": {name: _spread(values) for name, values in alone.seconds.items()},
    }  # fmt: skip


def _in_processes(
    job: Callable[[Times, str, float], None], workers: int, processes: int, seconds: float
) -> tuple[Times, float]:
    """Calls the job once a worker, all at once; what took how long, and the seconds from the first to the last."""
    ready, results = _spawned.Barrier(processes + 1), _spawned.Queue()
    shares = [range(workers)[number::processes] for number in range(processes)]
    children = [
        _spawned.Process(target=_threads, args=(job, share, seconds, ready, results)) for share in shares
    ]  # fmt: skip
    for child in children:
        child.start()
    ready.wait(300)
    began, whole = time.perf_counter(), Times()
    for _ in children:
        whole.add(results.get(timeout=600))
    took = time.perf_counter() - began
    for child in children:
        child.join()
    return whole, took


def _threads(job: Callable[..., None], share: Sequence[int], seconds: float, ready: Any, results: Any) -> None:
    times, store = Times(), open_store()
    for name in ("claim", "record", "renew"):
        setattr(store, name, times.timed(name, getattr(store, name)))
    ready.wait(300)
    before = time.process_time()
    threads = [threading.Thread(target=job, args=(times, f"w{number}", seconds)) for number in share]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.seconds["processor"] = [time.process_time() - before]
    results.put(times)


def _claim(times: Times, name: str, seconds: float) -> None:
    store = open_store()
    while (run := store.claim(name, "cpu", can=CAN)) is not None:
        store.record(run, [RunStarted({}), RunFinished({})], worker=name)


def _train(times: Times, name: str, seconds: float) -> None:
    steps = round(seconds / STEP_SECONDS)

    def train(run: RunConfig, folder: Path, control: Any) -> Iterator[Event]:
        yield RunStarted({"steps": steps})
        began = time.monotonic()
        for number in range(1, steps + 1):
            control.stop_requested()
            time.sleep(max(0.0, began + number * STEP_SECONDS - time.monotonic()))
            raw = {"hard": 1.0, "soft": 2.0}
            yield StepDone("distil", number, steps, number / steps, 3.0, raw, raw, 1e-3, 100.0, float(number), 0.5)
        yield RunFinished({"seconds": seconds})

    worker = Worker(open_store(), "cpu", train, again=True, can=CAN)
    if (run := worker.take()) is not None:
        worker.drive(run)


def _page_times(store: Store, over: threading.Event, rounds: int = 10_000) -> Times:
    """How long the queries of All runs and of Running take, once a second."""
    times = Times()
    runs, points = times.timed("All runs", store.runs), times.timed("Running", store.metrics)
    for _ in range(rounds):
        frame = runs()
        points(str(frame["id"].iloc[0]))
        if over.wait(1.0):
            break
    return times


def _server_seconds(store: Store) -> float:
    """Of the processor, that a PostgreSQL server on this computer has used, with its connections that are closed; else
    0: SQLite works in the workers.
    """
    if store.engine.dialect.name != "postgresql":
        return 0.0
    servers = (one.info for one in psutil.process_iter(["name", "cpu_times"]) if one.info["name"] == "postgres")
    return float(sum(sum(server["cpu_times"][:4]) for server in servers))


def _run(number: int) -> RunConfig:
    return RunConfig.model_validate({"task": "pocket-sentiment", "method": "fine-tune", "train": {"seed": number}})


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum, in milliseconds."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    ends = {"median": statistics.median(seconds), "p95": cuts[18], "max": max(seconds)}
    return {name: round(1000 * value, 1) for name, value in ends.items()}


def _without_address(words: str) -> str:
    """The command without the address of a server, which may hold a password."""
    parts = words.split(" ")
    if "--database" in parts[:-1]:
        parts[parts.index("--database") + 1] = "ADDRESS"
    return " ".join(parts)


if __name__ == "__main__":
    main()
