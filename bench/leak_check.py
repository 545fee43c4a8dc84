"""Whether the dashboard grows: it trains small runs one after the other while pages are opened and shut.

    python -m bench.leak_check [minutes]

Every round queues a demo-sized run, goes through all pages twice and waits for the run's end. Threads, open files and
resident memory of the server are noted after each round; what counts is that the second half of the rounds does not
grow. Writes bench/results/leak-check.json.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import psutil

from bench.dashboard import PAGES, RESULTS, browser, cache, dashboard_server, machine, wait_until_drawn
from kdcore.config import RunConfig
from kdcore.store import ACTIVE, Store, open_store

RUN = {
    "task": "pocket-sentiment", "method": "fine-tune", "probes": {"latency": False},
    "student": {"layers": 1, "width": 32, "heads": 2, "init": "random"},
}  # fmt: skip
TRAIN = {"epochs": 1, "max_length": 32, "threads": 1}


def main(minutes: float) -> None:
    with cache(), dashboard_server() as (url, server), browser() as context:
        store, until = open_store(), time.monotonic() + 60 * minutes
        rounds: list[dict[str, float]] = []
        _visit(context, url, "")  # the worker starts with the first visit
        while time.monotonic() < until:
            rounds.append(_round(store, context, url, server, len(rounds)))
            print(rounds[-1], flush=True)
    half = rounds[len(rounds) // 2 :]
    growth = {name: half[-1][name] - half[0][name] for name in ("threads", "files", "memory_mb")}
    about = {"command": f"python -m bench.leak_check {minutes:g}", **machine(), "growth_in_second_half": growth}
    (RESULTS / "leak-check.json").write_text(json.dumps({**about, "rounds": rounds}, indent=1) + "\n")
    print(f"{len(rounds)} rounds; growth in the second half: {growth}")


def _round(store: Store, context: Any, url: str, server: psutil.Process, number: int) -> dict[str, float]:
    run = store.add_run(RunConfig.model_validate(_settings(number)))
    for path in (*PAGES, f"live?job={run}", *PAGES):
        _visit(context, url, "" if path == "start" else path)
    while store.get(run).state in ("queued", *ACTIVE):
        time.sleep(0.5)
    return {
        "round": number, "threads": server.num_threads(), "files": server.num_fds(),
        "memory_mb": round(server.memory_info().rss / 2**20),
    }  # fmt: skip


def _settings(number: int) -> dict[str, Any]:
    return {**RUN, "name": f"round {number}", "train": {**TRAIN, "seed": number}}


def _visit(context: Any, url: str, path: str) -> None:
    page = context.new_page()
    page.goto(f"{url}/{path}")
    wait_until_drawn(page)
    page.close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30)
