"""How much of the machine a training uses: tokens a second, and the share of the matrix rate that it really has.

    python -m bench.gpu [--quick] [--rounds N] [--rows N] [--into FOLDER]

The student has BERT-base's size at 6 layers (768 wide, 12 heads), the teacher at 12; both have new weights, which
changes no time. Rows are made-up words, all of one length (128), so that nothing is padding. In turn: fine-tuning alone
and PKD with the teacher's answers kept. The rate is that of this machine's own large bf16 matrix products, measured
before. The floor is the time that a step's operations would take at that rate; what is above it are launches,
element-wise work, the update and Python. Writes bench/results/gpu.json. Needs a GPU, except with `--quick`.
"""

from __future__ import annotations

import csv
import random
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.fixtures import time_warm_run
from bench.timing_blocks import (
    Figures,
    command_line,
    figures,
    in_fresh_process,
    parse_options,
    ratios,
    spread,
    start_bench,
)
from kdcore.config import OwnData, ProbeConfig, RunConfig, StudentSpec, TeacherSpec, TrainConfig
from kdcore.engine.device import hardware
from kdcore.models.count import flops
from kdcore.models.sizes import bert_config
from kdcore.models.students import save_student
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.records import ModelSize

BASE = ModelSize(layers=12, width=768, heads=12, intermediate=3072, vocabulary=30_522, positions=512)
TINY = ModelSize(layers=4, width=32, heads=2, intermediate=64, vocabulary=200, positions=512)
TOKENS = 128
BATCH = 32
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__doc__, rounds=3)
    parser.add_argument("--rows", type=int, default=3200, help="rows of one epoch; 3200")
    options = parse_options(parser, arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.quick:
        parser.error("there is no GPU here; --quick shows on the CPU that the bench works")
    size, rows = (TINY, 64) if options.quick else (BASE, options.rows)
    bench = start_bench(
        "gpu", arguments, options, device=hardware(device), rows=rows, tokens=TOKENS, batch=BATCH,
        student_layers=size.layers // 2, teacher_layers=size.layers, width=size.width,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _prepare(home, size, rows)
        runs = {method: _run(home, method, size, options.threads) for method in ("fine-tune", "pkd")}
        in_fresh_process(partial(time_warm_run, _run(home, "pkd", size, options.threads, max_steps=1), home))
        arms = {method: partial(_time_with_peak, run, home) for method, run in runs.items()}
        blocks = bench.in_turn({"rate": partial(matrix_rate, device), **arms}, options.rounds)
    bench.finish(_summary(blocks, size), blocks)


def matrix_rate(device: str, size: int = 4096, times: int = 20) -> Figures:
    """Operations a second of bf16 products of two square matrices, the best of some."""
    size = size if device == "cuda" else 512
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(times):
        _synchronize(device)
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        _synchronize(device)
        best = min(best, time.perf_counter() - began)
    return {"teraflops": round(10 * 2 * size**3 / best / 1e12, 4)}


def _time_with_peak(run: RunConfig, home: Path) -> Figures:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    times = time_warm_run(run, home)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {**times, "peak_gb": round(peak / 2**30, 3)}


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _prepare(home: Path, size: ModelSize, rows: int) -> None:
    """A finished teacher of new weights, and a table of rows of TOKENS tokens each, [CLS] and [SEP] among them."""
    vocabulary = [f"w{number}" for number in range(size.vocabulary - len(SPECIAL))]
    model, _ = build_classifier(bert_config(size, 2, None), {}, seed=0)
    save_student(model, tokenizer_from_vocabulary((*SPECIAL, *vocabulary)), home / "teacher")
    draw = random.Random(0)
    for name, count in (("train.csv", rows + rows // 9 + 1), ("dev.csv", 20)):  # a tenth becomes `select`
        with (home / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            table.writerows([" ".join(draw.choices(vocabulary, k=TOKENS - 2)), number % 2] for number in range(count))


def _run(home: Path, method: str, size: ModelSize, threads: int, **train: Any) -> RunConfig:
    settings = {
        "epochs": 1, "batch_size": BATCH, "lr": 1e-4, "max_length": TOKENS, "threads": threads,
        "evaluate_every": 10**9, "checkpoint_every": 10**9, **train,
    }  # fmt: skip
    return RunConfig(
        task="own", method=method, train=TrainConfig(**settings),
        own=OwnData(path=str(home / "train.csv"), validation_path=str(home / "dev.csv"), text="text", label="label"),
        teachers=(TeacherSpec(name="base", source="folder", where=str(home / "teacher")),),
        student=StudentSpec(layers=size.layers // 2, init="teacher", init_layers="skip"),
        probes=ProbeConfig(latency=False, distances=False, fidelity=False),
    )  # fmt: skip


def _summary(blocks: list[Figures], size: ModelSize) -> dict[str, Any]:
    rate = max(figures(blocks, "rate", "teraflops")) * 1e12
    student = ModelSize(**{**vars(size), "layers": size.layers // 2})
    operations = 3 * flops(student, TOKENS, BATCH)
    summary: dict[str, Any] = {"bf16_teraflops": round(rate / 1e12, 3), "floor_ms": round(1e3 * operations / rate, 3)}
    for method in ("fine-tune", "pkd"):
        seconds, steps = figures(blocks, method, "seconds"), figures(blocks, method, "steps")
        each = [total / count for total, count in zip(seconds, steps, strict=True)]
        summary[method] = {
            "ms_per_step": spread(1e3 * step for step in each),
            "tokens_per_second": spread(BATCH * TOKENS / step for step in each),
            "share_of_rate": spread(operations / rate / step for step in each),
            "peak_gb": max(figures(blocks, method, "peak_gb")),
        }
    summary["pkd_to_fine_tuning"] = ratios(*(figures(blocks, method, "seconds") for method in ("pkd", "fine-tune")))
    for name, value in summary.items():
        print(f"{name}: {value}")
    return {"summary": summary}


if __name__ == "__main__":
    main()
