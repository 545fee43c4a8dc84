"""How the cost of a run grows with examples, layers and teachers, and what the teachers' kept answers cost and save.

    KD_GLUE_DIR=... python -m bench.scaling

The subject is that of bench/overhead.py: SST-2 rows, students of all-MiniLM-L6-v2, batch 32, training proper, each
block in a fresh process. Examples: one epoch of PKD, nothing kept, on a quarter, a half, all and twice the rows.
Layers: KD under a teacher of 6, answers kept, students of 1 to 6. Teachers: KD from the mean of 1, 3 and 5 of
them (6, 5, 4, 3 and 2 layers), each asked for every row, answers kept and not. Cache: bytes a row on disk, and the
milliseconds that reading a shuffled batch of 32 rows takes from memory and from disk (pages dropped before; the bytes
that really came from disk are given beside it, since some file systems keep them).
Writes bench/results/scaling.json.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.fixtures import BATCH, Subject, time_cold_run, time_warm_run
from bench.timing_blocks import (
    Arm,
    Figures,
    command_line,
    figures,
    in_fresh_process,
    parse_options,
    spread,
    start_bench,
)
from kdcore.data.encode import Encoded, collate
from kdcore.engine.device import compute_for
from kdcore.engine.teacher_cache import TeacherCache, tensors_of
from kdcore.models.sizes import size_of
from kdcore.models.students import load_classifier
from kdcore.records import Want, want

PARTS = (0.25, 0.5, 1, 2)
LAYERS = (1, 2, 3, 4, 6)
ENSEMBLES: dict[int, tuple[int, ...]] = {1: (6,), 3: (6, 5, 4), 5: (6, 5, 4, 3, 2)}
OUTPUTS: dict[str, Want] = {
    "logits": want("logits"), "[CLS] states, 2 layers": want(cls=(2, 4)), "hidden states, 1 layer": want(hidden=(4,)),
}  # fmt: skip
"""What is kept in each entry of the cache."""


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(command_line(__doc__, rounds=3, rows=2000), arguments)
    bench = start_bench("scaling", arguments, options, seed=0, batch=BATCH)
    with tempfile.TemporaryDirectory() as home:
        subject = Subject(Path(home), options.task, options.rows, options.threads)
        for layers in ENSEMBLES.values():  # what an earlier run would have kept
            in_fresh_process(partial(time_warm_run, subject.run("kd", layers, max_steps=1), subject.home))
        blocks = bench.in_turn(_arms(subject), options.rounds)
    bench.finish(_summary(blocks), blocks)


def _arms(subject: Subject) -> dict[str, Arm]:
    arms: dict[str, Arm] = {}
    for part in PARTS:
        some = replace(subject, rows=max(16, round(part * subject.rows)))
        arms[f"rows {some.rows}"] = partial(time_cold_run, some.run("pkd"), subject.home)
    for layers in LAYERS:
        arms[f"layers {layers}"] = partial(time_warm_run, subject.run("kd", layers=layers), subject.home)
    for count, teachers in ENSEMBLES.items():
        run = subject.run("kd", teachers)
        arms[f"teachers {count}, warm"] = partial(time_warm_run, run, subject.home)
        arms[f"teachers {count}, cold"] = partial(time_cold_run, run, subject.home)
    for kind in OUTPUTS:
        arms[f"cache of {kind}"] = partial(measure_cache, subject, kind)
    return arms


def measure_cache(subject: Subject, kind: str) -> Figures:
    """One teacher's outputs of this kind over all rows: filled, then read in shuffled batches."""
    torch.set_num_threads(subject.threads)
    with tempfile.TemporaryDirectory(dir=subject.home) as folder:
        os.environ["KD_CACHE_DIR"] = folder
        run = subject.run("kd")
        _, rows, _ = subject.encoded(run)
        teacher = load_classifier(Path(run.teachers[0].where))
        tensors = tensors_of(OUTPUTS[kind], size_of(teacher.config))
        assert tensors is not None

        def entry() -> TeacherCache:
            return TeacherCache({"bench": kind}, rows.train, tensors)

        began = time.perf_counter()
        for _ in entry().fill(teacher, compute_for(run.train), ""):
            pass
        filled, size = time.perf_counter() - began, sum(tensor.size(rows.train) for tensor in tensors)
        memory, _ = _read(entry(), rows.train)
        for file in entry().folder.iterdir():
            _drop_pages(file)
        disk, read = _read(entry(), rows.train)
    return {
        "bytes_per_row": round(size / len(rows.train), 1), "tokens_per_row": round(float(rows.train.lengths.mean()), 2),
        "fill_s": round(filled, 4), "from_memory_ms": memory, "from_disk_ms": disk, "bytes_from_disk": read,
        "bytes": size,
    }  # fmt: skip


def _read(cache: TeacherCache, rows: Encoded) -> tuple[float, int | None]:
    """Mean milliseconds of a batch over one shuffled epoch, and the bytes that came from disk."""
    order = np.random.default_rng(0).permutation(len(rows))
    before, times = _bytes_read(), []
    for start in range(0, len(order), BATCH):
        batch = collate(rows, order[start : start + BATCH])
        began = time.perf_counter()
        cache.read(batch.ids, batch.encoding, torch.device("cpu"))
        times.append(time.perf_counter() - began)
    after = _bytes_read()
    return round(1000 * statistics.mean(times), 4), None if before is None or after is None else after - before


def _drop_pages(file: Path) -> None:
    """Asks the system to forget what it holds of a file. No mapping of it may be open."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _bytes_read() -> int | None:
    """Bytes that this process has had read from storage; None where the system does not say."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return int(next(line.split()[1] for line in lines if line.startswith("read_bytes")))


def _summary(blocks: list[Figures]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for arm in dict.fromkeys(block["arm"] for block in blocks):
        names: tuple[str, ...] = ("seconds", "examples_per_second", "teacher_pass_s")
        if arm.startswith("cache"):
            names = ("bytes_per_row", "from_memory_ms", "from_disk_ms", "bytes_from_disk")
        values = {name: figures(blocks, arm, name) for name in names}
        summary[arm] = {name: spread(each) for name, each in values.items() if None not in each}
        medians = ", ".join(f"{name} {row['median']:g}" for name, row in summary[arm].items())
        print(f"{arm:32} {medians}")
    return {"summary": summary}


if __name__ == "__main__":
    main()
