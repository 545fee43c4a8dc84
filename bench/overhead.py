"""What distilling costs beyond fine-tuning the same student alone: KD, PKD and SKD, teachers' answers kept or not.

    KD_GLUE_DIR=... python -m bench.overhead

One epoch of SST-2 rows, a 3-layer student of all-MiniLM-L6-v2 (384 wide), batch 32; KD and PKD under a teacher of 6
layers, SKD under three of 6, 4 and 3. The time is that of the training proper (no evaluation, no checkpoint), each
block in a fresh process. Warm: the teachers' answers were kept by an earlier run. Cold: the same with nothing kept, so
that the teachers' pass is part of the training. The pass is also timed alone, as a plain pass over the rows that keeps
nothing. Ratios: warm / fine-tune, and cold / (fine-tune + pass alone); both aim at 1.10 or less.
Writes bench/results/overhead.json.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.fixtures import Subject, time_cold_run, time_warm_run
from bench.timing_blocks import (
    Arm,
    Figures,
    command_line,
    figures,
    in_fresh_process,
    parse_options,
    ratios,
    spread,
    start_bench,
)
from kdcore.config import RunConfig
from kdcore.engine.device import compute_for
from kdcore.engine.predict import predict
from kdcore.models.students import load_classifier

TEACHERS = {"kd": (6,), "pkd": (6,), "skd": (6, 4, 3)}
"""Method -> the layers of each teacher."""
AIM = 1.10


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(command_line(__doc__, rounds=5, rows=4000), arguments)
    bench = start_bench("overhead", arguments, options, seed=0, student_layers=3, teachers=TEACHERS)
    with tempfile.TemporaryDirectory() as home:
        subject = Subject(Path(home), options.task, options.rows, options.threads)
        for method, layers in TEACHERS.items():  # what an earlier run would have kept
            in_fresh_process(partial(time_warm_run, subject.run(method, layers, max_steps=1), subject.home))
        blocks = bench.in_turn(_arms(subject), options.rounds)
    bench.finish(_summary(blocks), blocks)


def _arms(subject: Subject) -> dict[str, Arm]:
    arms: dict[str, Arm] = {"fine-tune": partial(time_warm_run, subject.run("fine-tune"), subject.home)}
    for method, layers in TEACHERS.items():
        run = subject.run(method, layers)
        arms[f"{method}, warm"] = partial(time_warm_run, run, subject.home)
        arms[f"{method}, cold"] = partial(time_cold_run, run, subject.home)
    for layers in dict.fromkeys(TEACHERS.values()):
        arms[_pass(layers)] = partial(pass_alone, subject, subject.run("skd", layers))
    return arms


def pass_alone(subject: Subject, run: RunConfig) -> Figures:
    """Every teacher over all training rows once, in canonical batches, for its logits alone."""
    torch.set_num_threads(subject.threads)
    _, rows, _ = subject.encoded(run)
    compute = compute_for(run.train)
    teachers = [compute.frozen(load_classifier(Path(spec.where))) for spec in run.teachers]
    began = time.perf_counter()
    for teacher in teachers:
        for _ in predict(teacher, rows.train, compute, ""):
            pass
    return {"seconds": round(time.perf_counter() - began, 4)}


def _pass(layers: tuple[int, ...]) -> str:
    return f"pass of {len(layers)}"


def _summary(blocks: list[Figures]) -> dict[str, Any]:
    alone = figures(blocks, "fine-tune", "seconds")
    summary: dict[str, Any] = {"fine-tune": {"seconds": spread(alone)}}
    for method, layers in TEACHERS.items():
        warm, cold = (figures(blocks, f"{method}, {state}", "seconds") for state in ("warm", "cold"))
        teaching = figures(blocks, _pass(layers), "seconds")
        whole = [own + teachers_pass for own, teachers_pass in zip(alone, teaching, strict=True)]
        summary[method] = {
            "warm_s": spread(warm), "cold_s": spread(cold), "pass_alone_s": spread(teaching),
            "pass_in_cold_s": spread(figures(blocks, f"{method}, cold", "teacher_pass_s")),
            "warm_to_fine_tuning": ratios(warm, alone), "cold_to_fine_tuning_and_pass": ratios(cold, whole),
        }  # fmt: skip
        for name in ("warm_to_fine_tuning", "cold_to_fine_tuning_and_pass"):
            ratio = summary[method][name]["median"]
            print(f"{method:4} {name:30} {ratio:.3f} ({'within' if ratio <= AIM else 'above'} {AIM:.2f})")
    return {"aim": AIM, "summary": summary}


if __name__ == "__main__":
    main()
