"""What a training step costs under each method, against fine-tuning the same student alone, on this machine.

    KD_GLUE_DIR=... python -m bench.method_cost [rounds] [--methods kd gkd ...] [--steps 24]

MRPC, a 4-layer student, all-MiniLM-L6-v2 as teacher (6 layers, fine-tuned, outputs kept where they are kept at all),
batch 32, one thread, whose CPU time is counted, so that other work on the machine counts little. The methods take
turns, several rounds; a method's figure is the median of its rounds. A stage counts with its share of the steps. Ratios
are taken within a round, over fine-tuning and over KD, which are always measured. `pace` is what the estimate of a
run's cost times on this machine. Writes bench/results/method-cost.json; methods of an earlier file that are not
measured now stay, with the hardware that they were measured on (`earlier`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdcore.config import FineTune, ProbeConfig, RunConfig, StudentSpec, TeacherSpec, TrainConfig
from kdcore.engine import pace
from kdcore.engine.device import build_facts, compute_for
from kdcore.engine.estimate import pace_of
from kdcore.engine.plan import Plan
from kdcore.engine.trainer import train
from kdcore.events import RunStarted, StepDone
from kdcore.methods import METHODS

STEPS = 24
SIZES = {"skd": (6, 4, 3), "wkd": (6, 4, 3)}
"""Methods that take several teachers: the layers of each."""


ALONE, PLAIN = "fine-tune", "kd"
"""What a method's step is set beside."""


def main(rounds: int, methods: Sequence[str], steps: int) -> None:
    taken: dict[str, list[float]] = defaultdict(list)
    extra: dict[str, int] = {}
    for number in range(rounds):
        for key in dict.fromkeys((ALONE, PLAIN, *methods)):
            with tempfile.TemporaryDirectory() as folder:
                each, extra[key] = _milliseconds_a_step(_run(key, steps), Path(folder))
            taken[key].append(each)
            print(f"round {number + 1}: {key:12} {each:6.0f} ms a student step", flush=True)
    about = {**build_facts(compute_for(_run(PLAIN, steps).train)), "rounds": rounds, "steps": steps}
    rows: dict[str, dict[str, Any]] = {
        key: {
            "ms_per_student_step": round(statistics.median(taken[key]), 1),
            "ratio_to_fine_tuning": _ratio(taken[key], taken[ALONE]), "ratio_to_kd": _ratio(taken[key], taken[PLAIN]),
            "each_round": [round(value, 1) for value in taken[key]], "extra_parameters": extra[key],
        }
        for key in taken
    }  # fmt: skip
    pace.clock = time.process_time
    _write(about | {"threads": 1, "pace": asdict(pace_of(Plan(_run("gkd", steps)))[0])}, rows)
    for key, row in sorted(rows.items(), key=lambda item: item[1]["ratio_to_kd"]):
        print(f"{key:12} {row['ms_per_student_step']:7.1f} ms  x {row['ratio_to_kd']:.2f} of KD")


def _ratio(each: list[float], other: list[float]) -> float:
    """Median over rounds."""
    return round(statistics.median(one / two for one, two in zip(each, other, strict=True)), 3)


def _write(about: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    """Beside the methods that were not measured now: they keep what the file says of them, and on what hardware."""
    target = Path(__file__).parent / "results" / "method-cost.json"
    before = json.loads(target.read_text()) if target.exists() else {"methods": {}}
    kept = {
        key: {"earlier": before["hardware"], **row} for key, row in before["methods"].items()
        if key not in rows and "ratio_to_kd" in row
    }  # fmt: skip
    found = about | {"task": "mrpc", "methods": {key: (rows | kept)[key] for key in METHODS if key in rows | kept}}
    target.write_text(json.dumps(found, indent=1, default=str) + "\n")


def _run(method: str, steps: int) -> RunConfig:
    teachers = tuple(
        TeacherSpec(
            name=f"minilm-{layers}", source="package", where="minilm", layers=None if layers == 6 else layers,
            fine_tune=FineTune(epochs=3),
        )
        for layers in SIZES.get(method, (6,))
    )  # fmt: skip
    return RunConfig(
        task="mrpc", method=method, teachers=teachers,
        student=StudentSpec(layers=4, init="teacher", init_layers="skip"),
        train=TrainConfig(max_steps=steps, lr=1e-4, threads=1, log_every=1, evaluate_every=10_000),
        probes=ProbeConfig(latency=False, distances=False, fidelity=False),
    )  # fmt: skip


def _milliseconds_a_step(run: RunConfig, folder: Path) -> tuple[float, int]:
    """The CPU time of all steps, pilots and assistants included, over the student's own steps; and extra weights."""
    steps: dict[str, list[float]] = defaultdict(list)
    extra, before = 0, time.process_time()
    for event in train(run, folder):
        now = time.process_time()
        if isinstance(event, RunStarted):
            extra = event.facts["extra_parameters"]
        if isinstance(event, StepDone):
            steps[event.stage].append(now - before)
        before = now
    total = sum(len(each) * statistics.median(each) for each in steps.values())
    return 1000 * total / (run.train.max_steps or 1), extra


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    main(options.rounds, options.methods, options.steps)
