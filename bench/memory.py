"""Peak memory: what the estimate says before a run against what the run took; and whether many runs let memory grow.

    KD_GLUE_DIR=... python -m bench.memory

Each configuration trains for one epoch of a few rows in a fresh process, whose highest resident memory (VmHWM, files
that are mapped included) is read when the models are ready, after the last step and at the end. The estimate is
`kdcore.engine.estimate.predict`; it aims to be within 25 %. Then 100 small runs, one after the other in one process,
fine-tuning and KD by turns: resident memory after each, and its slope over the second half. Linux only.
Writes bench/results/memory.json.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.fixtures import Subject
from bench.timing_blocks import Figures, command_line, figures, parse_options, spread, start_bench
from kdcore.config import RunConfig
from kdcore.engine.estimate import predict
from kdcore.engine.plan import Plan
from kdcore.engine.trainer import train
from kdcore.events import RunStarted, StepDone

AIM = 0.25
RUNS, QUICK_RUNS = 100, 4
PAIR_TASK = {"sst2": "mrpc", "pocket-sentiment": "pocket-paraphrase"}
"""Task -> one with pairs, whose rows are longer."""


@dataclass(frozen=True)
class Case:
    """A run whose memory is predicted and measured. train: changes of its settings."""

    method: str
    teachers: tuple[int, ...] = (6,)
    layers: int = 3
    pairs: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)

    def run(self, subject: Subject) -> RunConfig:
        if self.pairs:
            subject = replace(subject, task=PAIR_TASK.get(subject.task, "mrpc"), home=subject.home / "pairs")
        return subject.run(self.method, self.teachers, self.layers, **self.train)


CASES = {
    "fine-tune": Case("fine-tune"),
    "kd": Case("kd"),
    "pkd": Case("pkd"),
    "pkd, float32": Case("pkd", train={"precision": "fp32"}),
    "pkd, 6 layers": Case("pkd", layers=6),
    "pkd, batch 128": Case("pkd", train={"batch_size": 128}),
    "pkd, batch 128 in 4 parts": Case("pkd", train={"batch_size": 128, "accumulate": 4}),
    "pkd, nothing kept": Case("pkd", train={"teacher_cache": False}),
    "pkd, pairs": Case("pkd", pairs=True),
    "skd, 3 teachers": Case("skd", (6, 4, 3)),
    "wkd, 5 teachers, nothing kept": Case("wkd", (6, 5, 4, 3, 2), train={"teacher_cache": False}),
    "tinybert, pairs": Case("tinybert", pairs=True),
    "minilm-v2, pairs": Case("minilm-v2", pairs=True),
    "takd": Case("takd"),
    **{f"{key}, pairs": Case(key, pairs=True) for key in ("gkd", "ad-kd", "backward-kd", "text-smoothing", "simkd")},
}


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__doc__, rounds=1, rows=2000)
    parser.add_argument("--cases", nargs="*", choices=CASES, help="only these; all")
    parser.add_argument("--runs", type=int, help=f"runs in one process; {RUNS}")
    options = parse_options(parser, arguments)
    runs, names = options.runs or (QUICK_RUNS if options.quick else RUNS), options.cases or list(CASES)
    bench = start_bench("memory", arguments, options, seed=0, runs=runs)
    with tempfile.TemporaryDirectory() as home:
        subject = Subject(Path(home), options.task, options.rows, options.threads)
        cases = {name: CASES[name].run(subject) for name in names}
        predicted = {name: _mb(predict(Plan(run)).memory_bytes) for name, run in cases.items()}
        arms = {name: partial(measure_memory, run) for name, run in cases.items()}
        blocks = bench.in_turn({**arms, "many runs": partial(many_runs, Path(home), runs)}, options.rounds)
    bench.finish(_summary(blocks, predicted), blocks)


def measure_memory(run: RunConfig) -> Figures:
    """Highest resident memory when the models are ready, after the last step, and at the end, in MB."""
    marks: Figures = {"libraries_mb": _resident("VmHWM")}
    with _own_cache() as folder:
        for event in train(run, Path(folder) / "run"):
            if isinstance(event, RunStarted):
                marks["ready_mb"] = _resident("VmHWM")
            elif isinstance(event, StepDone):
                marks["trained_mb"] = _resident("VmHWM")
                marks["mapped_files_mb"] = _resident("RssFile")
    return {**marks, "peak_mb": max(_resident("VmHWM"), *marks.values())}  # the kernel's sums lag a little


def many_runs(home: Path, count: int) -> Figures:
    """Resident memory after each of many small runs on a pocket task, in MB."""
    subject = Subject(home / "small", "pocket-sentiment", 64, 1)
    after = []
    with _own_cache() as folder:
        for number in range(count):
            run = subject.run(("fine-tune", "kd")[number % 2], layers=2, seed=number)
            for _ in train(run, Path(folder) / f"run-{number}"):
                pass
            gc.collect()
            after.append(_resident("VmRSS"))
    half = after[len(after) // 2 :]
    slope = float(np.polyfit(range(len(half)), half, 1)[0])
    return {"after_each_mb": after, "slope_mb_a_run": round(slope, 4), "growth_mb": round(after[-1] - half[0], 1)}


def _own_cache() -> tempfile.TemporaryDirectory[str]:
    """An empty cache for this process, removed at the end of the context."""
    folder: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory()
    os.environ["KD_CACHE_DIR"] = str(Path(folder.name) / "cache")
    return folder


def _resident(name: str) -> float:
    """A figure of this process's memory, in MB, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return _mb(1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))))


def _mb(size: int) -> float:
    return round(size / 2**20, 1)


def _summary(blocks: list[Figures], predicted: Mapping[str, float]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name, megabytes in predicted.items():
        taken = figures(blocks, name, "peak_mb")
        off = megabytes / max(taken) - 1
        parts = {part: figures(blocks, name, part)[0] for part in ("libraries_mb", "ready_mb", "trained_mb")}
        summary[name] = {"predicted_mb": megabytes, "peak_mb": spread(taken), **parts, "off": round(off, 3)}
        print(f"{name:32} predicted {megabytes:6.0f} MB, took {max(taken):6.0f} MB, off by {100 * off:+.0f} %")
    slope = figures(blocks, "many runs", "slope_mb_a_run")
    print(f"many runs: {slope[0]:+.3f} MB a run over the second half")
    return {"aim": AIM, "summary": summary, "slope_mb_a_run": spread(slope)}


if __name__ == "__main__":
    main()
