"""What a training step costs under each method, against fine-tuning the same student alone, on this machine.

    KD_GLUE_DIR=... python -m bench.method_cost [rounds]

MRPC, a 4-layer student, all-MiniLM-L6-v2 as teacher (6 layers, fine-tuned, outputs kept where they are kept at all),
batch 32, one thread. The methods take turns, several rounds; a method's figure is the median of its rounds. A stage
counts with its share of the steps. Writes bench/results/method-cost.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from kdcore.config import FineTune, ProbeConfig, RunConfig, StudentSpec, TeacherSpec, TrainConfig
from kdcore.engine.device import build_facts, compute_for
from kdcore.engine.trainer import train
from kdcore.events import RunStarted, StepDone
from kdcore.methods import METHODS

STEPS = 24
SIZES = {"skd": (6, 4, 3), "wkd": (6, 4, 3)}
"""Methods that take several teachers: the layers of each."""


def main(rounds: int) -> None:
    milliseconds: dict[str, list[float]] = defaultdict(list)
    extra: dict[str, int] = {}
    for number in range(rounds):
        for key in METHODS:
            with tempfile.TemporaryDirectory() as folder:
                each, extra[key] = _milliseconds_a_step(_run(key), Path(folder))
            milliseconds[key].append(each)
            print(f"round {number + 1}: {key:12} {each:6.0f} ms a student step", flush=True)
    median = {key: statistics.median(values) for key, values in milliseconds.items()}
    alone = median["fine-tune"]
    costs: dict[str, dict[str, Any]] = {
        key: {
            "ms_per_student_step": round(median[key], 1), "ratio_to_fine_tuning": round(median[key] / alone, 3),
            "each_round": [round(value, 1) for value in milliseconds[key]], "extra_parameters": extra[key],
        }
        for key in METHODS
    }  # fmt: skip
    about = {**build_facts(compute_for(_run("kd").train)), "threads": torch.get_num_threads(), "rounds": rounds}
    target = Path(__file__).parent / "results" / "method-cost.json"
    target.write_text(
        json.dumps({**about, "task": "mrpc", "steps": STEPS, "methods": costs}, indent=1, default=str) + "\n"
    )
    for key, row in sorted(costs.items(), key=lambda item: item[1]["ratio_to_fine_tuning"]):
        print(f"{key:12} {row['ms_per_student_step']:7.1f} ms  x {row['ratio_to_fine_tuning']:.2f}")


def _run(method: str) -> RunConfig:
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
        train=TrainConfig(max_steps=STEPS, lr=1e-4, threads=1, log_every=1, evaluate_every=10_000),
        probes=ProbeConfig(latency=False, distances=False, fidelity=False),
    )  # fmt: skip


def _milliseconds_a_step(run: RunConfig, folder: Path) -> tuple[float, int]:
    """All the time that steps take, pilots and assistants included, over the student's own steps; and extra weights."""
    steps: dict[str, list[float]] = defaultdict(list)
    extra = 0
    for event in train(run, folder):
        if isinstance(event, RunStarted):
            extra = event.facts["extra_parameters"]
        if isinstance(event, StepDone):
            steps[event.stage].append(run.train.batch_size / event.examples_per_second)
    total = sum(len(each) * statistics.median(each) for each in steps.values())
    return 1000 * total / STEPS, extra


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
