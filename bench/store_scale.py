"""How long the pages take over a full store: 1,000 runs of 1,000 logged steps, drawn in Chromium.

    python -m bench.store_scale [runs]

The runs are written as the engine writes them (several values a step), none is trained. Each page is opened once and
then five times more, reloaded as a new session; the figure is the time from the reload to the last plot. Writes
bench/results/store-scale.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from bench.dashboard import RESULTS, add, browser, cache, dashboard_server, machine, run_config, wait_until_drawn
from kdcore.store import Store, open_store

STEPS = 1000
METHODS = ("fine-tune", "kd", "pkd", "distilbert", "skd")
TASKS = ("pocket-sentiment", "pocket-entailment", "pocket-paraphrase")
COMPARED = 20
ROUNDS = 5


def main(count: int) -> None:
    with cache():
        store = open_store()
        began = time.monotonic()
        runs = [_add(store, number) for number in range(count)]
        print(f"{count} runs of {STEPS} steps written in {time.monotonic() - began:.0f} s", flush=True)
        first = [run for number, run in enumerate(runs) if number // len(METHODS) % len(TASKS) == 0][:COMPARED]
        pages = {
            "runs": "runs",
            f"compare, {COMPARED} runs": f"compare?runs={','.join(first)}",
            f"speed, {COMPARED} runs": f"speed?runs={','.join(first)}",
            "start": "",
        }
        with dashboard_server() as (url, _), browser() as context:
            seconds = {name: _times(context, f"{url}/{path}") for name, path in pages.items()}
    about = {
        "command": f"python -m bench.store_scale {count}",
        **machine(),
        "runs": count,
        "steps": STEPS,
        "pages": seconds,
    }
    (RESULTS / "store-scale.json").write_text(json.dumps(about, indent=1) + "\n")


def _add(store: Store, number: int) -> str:
    method = METHODS[number % len(METHODS)]
    task = TASKS[number // len(METHODS) % len(TASKS)]
    run = run_config(method, number, task=task)
    return add(store, run, steps=STEPS)


def _times(context: Any, address: str) -> dict[str, Any]:
    page = context.new_page()
    seconds = []
    for _ in range(ROUNDS + 1):
        began = time.monotonic()
        page.goto(address)
        wait_until_drawn(page)
        seconds.append(round(time.monotonic() - began, 3))
    page.close()
    warm = seconds[1:]
    print(f"{address.split('?')[0]:40} first {seconds[0]:.2f} s, then {statistics.median(warm):.2f} s", flush=True)
    return {"first_s": seconds[0], "warm_median_s": statistics.median(warm), "warm_s": warm}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
