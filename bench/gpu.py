"""How much of the machine a training uses: tokens a second, and the share of the matrix rate that it really has.

    python -m bench.gpu [--quick] [--rounds N] [--rows N] [--into FOLDER]

The student has BERT-base's shape at 6 layers (768 wide, 12 heads), the teacher at 12; both have new weights, which
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

from bench.fixtures import timed_warm
from bench.timing_blocks import Figures, apart, asked, begun, command_line, figures, ratios, spread
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
    said = asked(parser, arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not said.quick:
        parser.error("there is no GPU here; --quick shows on the CPU that the bench works")
    shape, rows = (TINY, 64) if said.quick else (BASE, said.rows)
    bench = begun(
        "gpu", arguments, said, device=hardware(device), rows=rows, tokens=TOKENS, batch=BATCH,
        student_layers=shape.layers // 2, teacher_layers=shape.layers, width=shape.width,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _prepare(home, shape, rows)
        runs = {method: _run(home, method, shape, said.threads) for method in ("fine-tune", "pkd")}
        apart(partial(timed_warm, _run(home, "pkd", shape, said.threads, max_steps=1), home))
        arms = {method: partial(_timed, run, home) for method, run in runs.items()}
        blocks = bench.in_turn({"rate": partial(matrix_rate, device), **arms}, said.rounds)
    bench.finish(_summary(blocks, shape), blocks)


def matrix_rate(device: str, size: int = 4096, times: int = 20) -> Figures:
    """Operations a second of bf16 products of two square matrices, the best of some."""
    size = size if device == "cuda" else 512
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(times):
        _finished(device)
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        _finished(device)
        best = min(best, time.perf_counter() - began)
    return {"teraflops": round(10 * 2 * size**3 / best / 1e12, 4)}


def _timed(run: RunConfig, home: Path) -> Figures:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    found = timed_warm(run, home)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {**found, "peak_gb": round(peak / 2**30, 3)}


def _finished(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _prepare(home: Path, shape: ModelSize, rows: int) -> None:
    """A finished teacher of new weights, and a table of rows of TOKENS tokens each, [CLS] and [SEP] among them."""
    words = [f"w{number}" for number in range(shape.vocabulary - len(SPECIAL))]
    model, _ = build_classifier(bert_config(shape, 2, None), {}, seed=0)
    save_student(model, tokenizer_from_vocabulary((*SPECIAL, *words)), home / "teacher")
    draw = random.Random(0)
    for name, count in (("train.csv", rows + rows // 9 + 1), ("dev.csv", 20)):  # a tenth becomes `select`
        with (home / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            table.writerows([" ".join(draw.choices(words, k=TOKENS - 2)), number % 2] for number in range(count))


def _run(home: Path, method: str, shape: ModelSize, threads: int, **train: Any) -> RunConfig:
    settings = {
        "epochs": 1, "batch_size": BATCH, "lr": 1e-4, "max_length": TOKENS, "threads": threads,
        "evaluate_every": 10**9, "checkpoint_every": 10**9, **train,
    }  # fmt: skip
    return RunConfig(
        task="own", method=method, train=TrainConfig(**settings),
        own=OwnData(path=str(home / "train.csv"), validation_path=str(home / "dev.csv"), text="text", label="label"),
        teachers=(TeacherSpec(name="base", source="folder", where=str(home / "teacher")),),
        student=StudentSpec(layers=shape.layers // 2, init="teacher", init_layers="skip"),
        probes=ProbeConfig(latency=False, distances=False, fidelity=False),
    )  # fmt: skip


def _summary(blocks: list[Figures], shape: ModelSize) -> dict[str, Any]:
    rate = max(figures(blocks, "rate", "teraflops")) * 1e12
    student = ModelSize(**{**vars(shape), "layers": shape.layers // 2})
    operations = 3 * flops(student, TOKENS, BATCH)
    found: dict[str, Any] = {"bf16_teraflops": round(rate / 1e12, 3), "floor_ms": round(1e3 * operations / rate, 3)}
    for method in ("fine-tune", "pkd"):
        seconds, steps = figures(blocks, method, "seconds"), figures(blocks, method, "steps")
        each = [one / count for one, count in zip(seconds, steps, strict=True)]
        found[method] = {
            "ms_per_step": spread(1e3 * one for one in each),
            "tokens_per_second": spread(BATCH * TOKENS / one for one in each),
            "share_of_rate": spread(operations / rate / one for one in each),
            "peak_gb": max(figures(blocks, method, "peak_gb")),
        }
    found["pkd_to_fine_tuning"] = ratios(*(figures(blocks, method, "seconds") for method in ("pkd", "fine-tune")))
    for name, value in found.items():
        print(f"{name}: {value}")
    return {"found": found}


if __name__ == "__main__":
    main()
