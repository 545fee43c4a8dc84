"""What watching a run costs: the server's CPU a tick, and how much slower the run is while a page follows it.

    python -m bench.live_cost [blocks]

A run trains in the server while the page Live is open and shut by turns, blocks of 15 seconds, in random order within
each pair. Slow-down: 1 - (steps a second watched) / (unwatched), a block pair each; the interval is the bootstrap's
over pairs (95 %). The CPU a tick is taken over a run that is written by hand and trains nothing, at the page's one
tick a second. Writes bench/results/live-cost.json.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

import numpy as np
import psutil

from bench.dashboard import RESULTS, add, browser, cache, dashboard_server, grow, machine, run_config, wait_until_drawn
from kdcore.config import RunConfig
from kdcore.store import Store, open_store

BLOCK = 15.0
TICKS_SECONDS = 30.0


def main(blocks: int) -> None:
    with cache(), browser() as context:
        store = open_store()
        tick = _tick(store, context)
        pairs = _blocks(store, context, blocks)
    slower = np.array([1 - pair["watched"] / pair["alone"] for pair in pairs])
    draws = np.random.default_rng(0).choice(slower, (10_000, len(slower))).mean(axis=1)
    interval = [round(float(end), 4) for end in np.quantile(draws, (0.025, 0.975))]
    about = {
        "command": f"python -m bench.live_cost {blocks}", **machine(), "tick": tick, "block_seconds": BLOCK,
        "pairs": pairs, "slow_down_mean": round(float(slower.mean()), 4), "slow_down_95": interval,
    }  # fmt: skip
    (RESULTS / "live-cost.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"a tick: {tick['cpu_ms']} ms of server CPU; slower by {100 * slower.mean():.1f} %, 95 % {interval}")


def _tick(store: Store, context: Any) -> dict[str, float]:
    """Server CPU a tick of Live, over a run whose points grow, less what the server takes with no page open."""
    run = add(store, run_config("pkd", 1, "watched"), end="running", steps=600)
    with dashboard_server(KD_READ_ONLY="1") as (url, server):
        page = _open(context, f"{url}/live?job={run}")
        watched = _cpu_while_growing(store, run, server, 301)
        page.close()
        time.sleep(3)
        alone = _cpu_while_growing(store, run, server, 301 + 10 * int(TICKS_SECONDS))
    ticks = TICKS_SECONDS  # one a second
    return {"seconds": TICKS_SECONDS, "ticks": ticks, "cpu_ms": round(1000 * (watched - alone) / ticks, 1)}


def _cpu_while_growing(store: Store, run: str, server: psutil.Process, first: int) -> float:
    """CPU seconds that the server takes while ten steps a second are written."""
    before, until, step = _cpu(server), time.monotonic() + TICKS_SECONDS, first
    while time.monotonic() < until:
        grow(store, run, step, {"hard": 1.0, "soft": 1.0, "patience": 1.0}, 10_000)
        step += 1
        time.sleep(0.1)
    return _cpu(server) - before


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    result: float = times.user + times.system
    return result


def _blocks(store: Store, context: Any, blocks: int) -> list[dict[str, float]]:
    settings: dict[str, Any] = {
        "task": "pocket-sentiment", "method": "fine-tune",
        "student": {"layers": 3, "width": 128, "heads": 4, "init": "random"},
        "train": {"epochs": 1000, "max_length": 32, "threads": 1, "log_every": 20, "evaluate_every": 10_000_000},
    }  # fmt: skip
    order = random.Random(0)
    with dashboard_server() as (url, _):
        _open(context, url).close()  # the worker starts with the first visit
        run = store.add_run(RunConfig.model_validate(settings))
        while not _steps(store, run):
            time.sleep(0.5)
        pairs = []
        for number in range(blocks):
            pair = {}
            for kind in order.sample(["alone", "watched"], 2):
                pair[kind] = _pace(store, run, context, f"{url}/live?job={run}" if kind == "watched" else None)
            pairs.append(pair)
            print(f"pair {number + 1}: {pair}", flush=True)
        store.request_stop(run)
    return pairs


def _pace(store: Store, run: str, context: Any, address: str | None) -> float:
    """Steps a second over one block, with the page open or with none."""
    page = _open(context, address) if address else None
    time.sleep(2)  # the page's start is not watching
    began, first = time.monotonic(), _steps(store, run)
    time.sleep(BLOCK)
    pace = (_steps(store, run) - first) / (time.monotonic() - began)
    if page:
        page.close()
    return round(pace, 2)


def _steps(store: Store, run: str) -> int:
    return int(store.get(run).progress.get("step") or 0)


def _open(context: Any, address: str) -> Any:
    page = context.new_page()
    page.goto(address)
    wait_until_drawn(page)
    return page


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
