"""Six small trainings in each place of a farm, one of them killed: how many students are those of a straight run.

    python -m bench.kill_farm here slurm ray [--runs 6] [--slots 2]

KD and fine-tuning in turn, three seeds of each, first in one process that nobody disturbs, then by `kdcore farm` of
each place: child processes, submitit's local jobs, a local Ray. There the process of the first run that is behind a
checkpoint gets SIGKILL. Students are compared by the SHA-256 of their weights. Adds each place to
bench/results/kill-farm.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.faults.farm import endings, kill_a_worker
from bench.faults.workers import PATIENCE, STUDENTS, WORK, cache, settings, weights, worker_process
from bench.timing_blocks import RESULTS, command, machine
from kdcore.store import Store

PLACES = {
    "here": ("here", "--device", "cpu"),
    "slurm": ("slurm", "--cluster", "local"),
    "ray": ("ray", "--address", "local"),
}
"""Place -> the words after `kdcore farm`."""
METHODS = ("fine-tune", "kd")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="+", choices=PLACES)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    target = options.into / "kill-farm.json"
    with cache() as store:
        digests = straight(store, options.runs)
        for place in options.places:
            counts = disturbed(store, place, digests, options.slots)
            print(place, json.dumps(counts), flush=True)
            kept = json.loads(target.read_text()) if target.exists() else {}
            about = {"command": command("kill_farm", arguments), **machine(1)}
            target.write_text(json.dumps({**kept, place: {**about, **counts}}, indent=1) + "\n")


def straight(store: Store, count: int) -> list[list[str]]:
    """The digests of the students of so many runs, one after another in one process."""
    runs = _queue(store, count)
    worker_process(WORK).wait(PATIENCE)
    return [_digests(run) for run in runs]


def disturbed(store: Store, place: str, digests: Sequence[list[str]], slots: int) -> dict[str, Any]:
    """The same runs in a place, with one kill; digests: of the straight runs."""
    runs, killed, most = _queue(store, len(digests)), list[str](), 0
    began = time.monotonic()
    words = [sys.executable, "-m", "kdcore", "farm", *PLACES[place], "--slots", str(slots)]
    farm = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while farm.poll() is None and time.monotonic() - began < PATIENCE:
        most = max(most, len(store.active()))
        if not killed:
            kill_a_worker(store, runs, killed)
        time.sleep(0.05)
    farm.kill()
    rows = store.rows(runs)
    pairs = [pair for run, whole in zip(runs, digests, strict=True) for pair in zip(_digests(run), whole, strict=True)]
    return {
        "runs": len(runs), "slots": slots, "most_at_once": most, "farm_ended_with": farm.wait(),
        "done": sum(row.state == "done" for row in rows.values()), "endings": sum(endings(run) for run in runs),
        "killed": len(killed), "resumed_at": [rows[run].facts.get("resumed_at") for run in killed],
        "students": len(pairs), "students_equal": sum(one == other != "" for one, other in pairs),
        "leases_left": len(store.active()), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _queue(store: Store, count: int) -> list[str]:
    return [store.add_run(settings(METHODS[n % len(METHODS)], n // len(METHODS))) for n in range(count)]


def _digests(run: str) -> list[str]:
    """Of the weights of each student; "" where there are none."""
    found = [weights(run, name) for name in STUDENTS]
    return [hashlib.sha256(content).hexdigest() if content else "" for content in found]


if __name__ == "__main__":
    main()
