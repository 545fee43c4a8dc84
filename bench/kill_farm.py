"""Six small trainings in each place of a farm, disturbed by kills: how many students are those of a straight run.

    python -m bench.kill_farm here slurm ray [--kill worker farm database] [--runs 6] [--slots 2] [--away 12]

KD and fine-tuning in turn, three seeds of each, first in one process that nobody disturbs, then by `kdcore farm` of
each place: child processes, submitit's local jobs, a local Ray. There the kills are done in turn, each once another run
is behind a checkpoint:

* worker: the process that trains it gets SIGKILL.
* farm: the process of `kdcore farm` gets SIGKILL, and is started again at once.
* database: the server (PostgreSQL, of its own) ends at once with all connections, and is back after `--away` seconds.

Students are compared by the SHA-256 of their weights. Adds each place and its kills to bench/results/kill-farm.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.faults.farm import endings, kill_a_worker, trained, wait
from bench.faults.server import Server, server
from bench.faults.workers import PATIENCE, STUDENTS, WORK, cache, settings, weights, worker_process
from bench.timing_blocks import RESULTS, command, commit, machine
from kdcore.errors import UserError
from kdcore.paths import cache_dir
from kdcore.store import Store

PLACES = {
    "here": ("here", "--device", "cpu"),
    "slurm": ("slurm", "--cluster", "local"),
    "ray": ("ray", "--address", "local"),
}
"""Place -> the words after `kdcore farm`."""
KILLS = ("worker", "farm", "database")
METHODS = ("fine-tune", "kd")
_LEAVE_SECONDS = 90.0
"""Within which all processes of a farm are gone after it."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="+", choices=PLACES)
    parser.add_argument("--kill", nargs="+", choices=KILLS, default=["worker"], help="what is killed, in this order")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--away", type=float, default=12.0, help="seconds that the database is away")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    target = options.into / "kill-farm.json"
    with ExitStack() as opened:
        own = opened.enter_context(server()) if "database" in options.kill else None
        store = opened.enter_context(cache(own.url if own else ""))
        digests = straight(store, options.runs)
        for place in options.places:
            trial = Trial(store, place, options.slots, options.kill, own, options.away)
            counts = trial.counts(digests)
            print(place, json.dumps(counts), flush=True)
            kept = json.loads(target.read_text()) if target.exists() else {}
            about = {"command": command("kill_farm", arguments), "commit": commit(), **machine(1)}
            target.write_text(json.dumps({**kept, _title(place, options.kill): {**about, **counts}}, indent=1) + "\n")


def _title(place: str, kills: Sequence[str]) -> str:
    return place if list(kills) == ["worker"] else f"{place}: {', '.join(kills)}"


def straight(store: Store, count: int) -> list[list[str]]:
    """The digests of the students of so many runs, one after another in one process."""
    runs = _queue(store, count)
    worker_process(WORK).wait(PATIENCE)
    return [_digests(run) for run in runs]


@dataclass
class Trial:
    """The same runs in a place, with kills in this order; own: the server of the database."""

    store: Store
    place: str
    slots: int
    kills: Sequence[str]
    own: Server | None
    away: float
    hit: list[str] = field(default_factory=list)
    """Runs that were under way, behind a checkpoint, at a kill."""

    def counts(self, digests: Sequence[list[str]]) -> dict[str, Any]:
        """What became of the runs; digests: of the straight ones."""
        runs, most, to_do, done = _queue(self.store, len(digests)), 0, list(self.kills), list[str]()
        began, farm = time.monotonic(), self._farm()
        while farm.poll() is None and time.monotonic() - began < PATIENCE:
            with suppress(UserError):  # the database has only just come back
                most = max(most, len(self.store.active()))
                if to_do and (under_way := trained(self.store, runs, self.hit)):
                    farm = self._kill(to_do[0], runs, farm)
                    self.hit = list(dict.fromkeys([*self.hit, *under_way]))
                    done.append(to_do.pop(0))
            time.sleep(0.05)
        seconds = time.monotonic() - began
        farm.kill()
        rows = self.store.rows(runs)
        both = zip(runs, digests, strict=True)
        pairs = [pair for run, whole in both for pair in zip(_digests(run), whole, strict=True)]
        return {
            "database": self.store.engine.dialect.name, "runs": len(runs), "slots": self.slots, "most_at_once": most,
            "killed": done, "seconds_without_database": self.away * done.count("database"),
            "farm_ended_with": farm.wait(), "done": sum(row.state == "done" for row in rows.values()),
            "states": sorted({row.state for row in rows.values()}), "endings": sum(endings(run) for run in runs),
            "under_way_at_a_kill": len(self.hit), "resumed_at": [rows[run].facts.get("resumed_at") for run in runs],
            "students": len(pairs), "students_equal": sum(one == other != "" for one, other in pairs),
            "leases_left": len(self.store.active()), "processes_left": _processes_left(), "seconds": round(seconds, 1),
        }  # fmt: skip

    def _farm(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "kdcore", "farm", *PLACES[self.place], "--slots", str(self.slots)]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL)

    def _kill(self, what: str, runs: list[str], farm: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Kills; returns the farm, which may be another."""
        if what == "worker":
            kill_a_worker(self.store, runs, list(self.hit))
        elif what == "farm":
            farm.kill()
            farm.wait()
            farm = self._farm()
            wait(lambda: farm.poll() is not None or self._is_connected(farm))
        elif self.own is not None:
            self.own.crash()
            time.sleep(self.away)
            self.own.start_again()
        return farm

    def _is_connected(self, farm: subprocess.Popen[bytes]) -> bool:
        """Whether the farm has begun: one that cannot reach its database at its very start says so and ends."""
        with suppress(psutil.Error):
            return self.own is None or bool(psutil.Process(farm.pid).net_connections("tcp"))
        return False


def _processes_left() -> int:
    """How many processes that use this cache, besides this one, do not end by themselves."""
    until = time.monotonic() + _LEAVE_SECONDS
    while (left := sum(1 for process in psutil.process_iter() if _uses_cache(process))) and time.monotonic() < until:
        time.sleep(0.5)
    return left


def _uses_cache(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            return process.environ().get("KD_CACHE_DIR") == str(cache_dir())
    return False


def _queue(store: Store, count: int) -> list[str]:
    return [store.add_run(settings(METHODS[n % len(METHODS)], n // len(METHODS))) for n in range(count)]


def _digests(run: str) -> list[str]:
    """Of the weights of each student; "" where there are none."""
    found = [weights(run, name) for name in STUDENTS]
    return [hashlib.sha256(content).hexdigest() if content else "" for content in found]


if __name__ == "__main__":
    main()
