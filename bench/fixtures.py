"""What the benches of speed train: a student under teachers of the same family, on some rows of a task.

On GLUE's tasks the teachers are the first layers of all-MiniLM-L6-v2 (384 wide) with a new classifier: how well a
teacher does its task changes no time. On pocket tasks they are small and random, so that a bench can be tried anywhere.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from bench.timing_blocks import Figures
from kdcore.config import ProbeConfig, RunConfig, StudentSpec, TeacherSpec, TrainConfig
from kdcore.data import load
from kdcore.data.splits import TaskData
from kdcore.engine.job import Rows, encode_rows
from kdcore.engine.teacher_source import tokenizer_of
from kdcore.engine.trainer import train
from kdcore.events import RunFinished, RunStarted, StepDone
from kdcore.models.sizes import bert_config, size_of
from kdcore.models.sources import load_encoder, locate
from kdcore.models.students import build_student, load_classifier, save_student
from kdcore.models.tokenizers import load_tokenizer, tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.records import ModelSize

BATCH = 32
LR = 1e-4
MAX_LENGTH = 128
NEVER = 10**9
PRETRAINED = TeacherSpec(name="minilm", source="package", where="minilm")


@dataclass(frozen=True)
class Subject:
    """Task, number of training rows, torch's threads, and a folder for teachers and kept outputs."""

    home: Path
    task: str
    rows: int
    threads: int

    def teacher(self, layers: int) -> TeacherSpec:
        """A finished teacher of so many layers, made if it is not there.

        Raises:
            UserError: the task's data or the pretrained model are not here.
        """
        folder = self.home / f"teacher-{layers}"
        if not folder.exists():
            save_student(*_new_teacher(load(self.task), layers), folder)
        return TeacherSpec(name=f"layers-{layers}", source="folder", where=str(folder))

    def run(
        self, method: str, teachers: tuple[int, ...] = (6,), layers: int = 3, options: dict[str, Any] | None = None,
        **train: Any,
    ) -> RunConfig:  # fmt: skip
        """A run of this method, with no evaluation, checkpoint or probe before its last step.

        teachers: the layers of each. layers: of the student, whose weights are layers of the first teacher. train:
        changes of the training's settings.
        """
        settings = {
            "epochs": 1, "batch_size": BATCH, "lr": LR, "max_length": MAX_LENGTH, "max_train_rows": self.rows,
            "threads": self.threads, "device": "cpu", "evaluate_every": NEVER, "checkpoint_every": NEVER, **train,
        }  # fmt: skip
        return RunConfig(
            task=self.task, method=method, options=options or {}, teachers=tuple(map(self.teacher, teachers)),
            student=StudentSpec(layers=layers, init="teacher", init_layers="skip"), train=TrainConfig(**settings),
            probes=ProbeConfig(latency=False, distances=False, fidelity=False),
        )  # fmt: skip

    def encoded(self, run: RunConfig) -> tuple[TaskData, Rows, Any]:
        """The data, its rows as the run sees them, and the tokenizer."""
        data = load(self.task)
        tokenizer = tokenizer_of(run.teachers[0], data)
        return data, encode_rows(data, tokenizer, run.train), tokenizer

    def models(self, run: RunConfig, seed: int = 0) -> tuple[nn.Module, nn.Module]:
        """The first teacher, frozen, and the student with the weights it starts from."""
        teacher = load_classifier(Path(run.teachers[0].where)).eval().requires_grad_(False)
        size = size_of(teacher.config)
        student = build_student(replace(size, layers=run.student.layers), size.labels, run.student, teacher, seed)
        return teacher, student


def time_run(run: RunConfig) -> Figures:
    """Trains the run and times the training proper: from data and models ready to the last step done.

    teacher_pass_s: of these seconds, those in which teachers answered before the first step. whole_s: the entire run.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for event in train(run, Path(folder)):
            if isinstance(event, RunStarted):
                ready = time.perf_counter()
            elif isinstance(event, StepDone):
                last, steps = time.perf_counter(), event.step
            elif isinstance(event, RunFinished):
                cache = event.summary["cache"]
    seconds = last - ready
    return {
        "seconds": round(seconds, 4), "steps": steps, "teacher_pass_s": round(cache["seconds"], 4),
        "examples_per_second": round(steps * run.train.batch_size / seconds, 3), "hits": cache["hits"],
        "misses": cache["misses"], "whole_s": round(time.perf_counter() - began, 4),
    }  # fmt: skip


def time_warm_run(run: RunConfig, home: Path) -> Figures:
    """`timed`, with the outputs that earlier runs in `home` have kept."""
    os.environ["KD_CACHE_DIR"] = str(home / "cache")
    return time_run(run)


def time_cold_run(run: RunConfig, home: Path) -> Figures:
    """`timed`, with nothing kept: the teachers' pass is part of it."""
    with _empty_cache(home):
        return time_run(run)


@contextmanager
def _empty_cache(home: Path) -> Iterator[None]:
    folder = Path(tempfile.mkdtemp(prefix="cold-", dir=home))
    os.environ["KD_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_teacher(data: TaskData, layers: int) -> tuple[nn.Module, Any]:
    """A teacher with a new classifier, and its tokenizer."""
    if data.vocabulary is None:
        located = locate(PRETRAINED)
        return load_encoder(located, data.task.outputs, layers), load_tokenizer(located.path)
    size = ModelSize(layers, 32, 2, 64, len(data.vocabulary), MAX_LENGTH, data.task.outputs)
    model, _ = build_classifier(bert_config(size, data.task.outputs, None), {}, seed=0)
    return model, tokenizer_from_vocabulary(data.vocabulary)
