"""Whether speed costs accuracy: PKD here against a plain loop in float32, without buckets, without kept answers.

    KD_GLUE_DIR=... python -m bench.numerics

A teacher of 6 layers is fine-tuned once on the same SST-2 rows; a student of 3 of its layers then learns by PKD for
three epochs, from eight seeds (order and dropout), here (bf16 where the processor has it, buckets, kept answers) and in
the loop of bench/reference_loop.py, which runs the teacher at every step. The loss is compared by tenths of the run:
the two means over the seeds should differ by no more than one of the two spreads between seeds, and so should the dev
scores.
Writes bench/results/numerics.json.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.fixtures import BATCH, Subject
from bench.reference_loop import PKD, gold, learn, pkd_from_teacher
from bench.timing_blocks import Figures, command_line, in_fresh_process, parse_options, start_bench
from kdcore.config import RunConfig
from kdcore.engine.device import Compute, compute_for
from kdcore.engine.evaluate import scores
from kdcore.engine.predict import predict
from kdcore.engine.trainer import train
from kdcore.events import RunFinished, StepDone
from kdcore.models.students import save_student

SEEDS, QUICK_SEEDS = 8, 2
EPOCHS = 3
TENTHS = 10
PLAIN = Compute(torch.device("cpu"), "fp32")


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(command_line(__doc__, rounds=1, rows=1000), arguments, quick_rows=320)
    seeds = range(QUICK_SEEDS if options.quick else SEEDS)
    bench = start_bench("numerics", arguments, options, seeds=list(seeds), epochs=EPOCHS)
    with tempfile.TemporaryDirectory() as home:
        subject = Subject(Path(home), options.task, options.rows, options.threads)
        in_fresh_process(partial(teach, subject))
        arms = {}
        for seed in seeds:
            run = subject.run("pkd", options=PKD, epochs=EPOCHS, seed=seed, log_every=1)
            arms[f"ours, seed {seed}"] = partial(ours, subject, run)
            arms[f"plain, seed {seed}"] = partial(plain, subject, run)
        blocks = bench.in_turn(arms, options.rounds)
    bench.finish(_summary(blocks), blocks)


def teach(subject: Subject) -> Figures:
    """Fine-tunes the teacher of 6 layers where `subject` looks for it."""
    torch.set_num_threads(subject.threads)
    run = subject.run("fine-tune")
    _, rows, tokenizer = subject.encoded(run)
    teacher, _ = subject.models(run)
    teacher.requires_grad_(True)
    learn(teacher, rows.train, _steps(len(rows.train)), gold, compute_for(run.train), bucket=True)
    save_student(teacher.eval(), tokenizer, Path(run.teachers[0].where))
    return {}


def ours(subject: Subject, run: RunConfig) -> Figures:
    """The loss by tenths of the run, and the last weights' score."""
    losses = []
    with tempfile.TemporaryDirectory(dir=subject.home) as folder:
        os.environ["KD_CACHE_DIR"] = folder
        for event in train(run, Path(folder) / "run"):
            if isinstance(event, StepDone):
                losses.append(event.loss)
            elif isinstance(event, RunFinished):
                summary = event.summary
    split = next(name for name in summary["scores"]["last"] if name != "select")
    return _figures(losses, summary["scores"]["last"][split][summary["main_metric"]])


def plain(subject: Subject, run: RunConfig) -> Figures:
    """The same of the plain loop."""
    torch.set_num_threads(subject.threads)
    data, rows, _ = subject.encoded(run)
    teacher, student = subject.models(run)
    seed, steps = run.train.seed, _steps(len(rows.train))
    losses = learn(student, rows.train, steps, pkd_from_teacher(teacher), PLAIN, bucket=False, seed=seed)
    dev = rows.splits[data.task.splits[0]]
    logits = _returned_value(predict(student, dev, PLAIN, ""))
    return _figures(losses, scores(data.task, logits, dev.labels)[data.task.main_metric])


def _steps(rows: int) -> int:
    return EPOCHS * -(-rows // BATCH)


def _returned_value(work: Generator[Any, None, Any]) -> Any:
    """What a generator returns when it is through."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def _figures(losses: list[float], score: float) -> Figures:
    tenths = [float(np.mean(part)) for part in np.array_split(losses, TENTHS)]
    return {"steps": len(losses), "score": round(score, 5), "loss_by_tenths": [float(f"{x:.5g}") for x in tenths]}


def _summary(blocks: list[Figures]) -> dict[str, Any]:
    kinds = {kind: [block for block in blocks if block["arm"].startswith(kind)] for kind in ("ours", "plain")}
    losses = {kind: np.array([block["loss_by_tenths"] for block in each]) for kind, each in kinds.items()}
    score = {kind: np.array([[block["score"]] for block in each]) for kind, each in kinds.items()}
    summary = {"loss_by_tenths": _comparison(**losses), "score": _comparison(**score)}
    for name, rows in summary.items():
        within = sum(row["within"] for row in rows)
        print(f"{name}: {within} of {len(rows)} within the spread between seeds; the last: {rows[-1]}")
    return {"summary": summary}


def _comparison(ours: np.ndarray, plain: np.ndarray) -> list[dict[str, Any]]:
    """Means over the seeds (rows) and their spreads, column by column."""
    gaps = np.abs(ours.mean(0) - plain.mean(0))
    spreads = np.maximum(np.ptp(ours, axis=0), np.ptp(plain, axis=0))
    columns = zip(ours.mean(0), plain.mean(0), gaps, spreads, strict=True)
    return [
        {
            "ours": round(float(own), 5), "plain": round(float(other), 5), "gap": round(float(gap), 5),
            "spread": round(float(wide), 5), "within": bool(gap <= wide),
        }
        for own, other, gap, wide in columns
    ]  # fmt: skip


if __name__ == "__main__":
    main()
