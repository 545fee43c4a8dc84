"""What a run will cost: steps, seconds, memory and disk, from sizes and a quick look at this machine."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kdcore.config import FineTune, RunConfig
from kdcore.data import load
from kdcore.data.encode import Encoded, encode
from kdcore.data.splits import Split, TaskData, train_and_select
from kdcore.engine import teacher_cache
from kdcore.engine.loop import epoch_steps, student_steps
from kdcore.engine.precision import Arithmetic, arithmetic, keep_freed_memory
from kdcore.engine.teachers import base_shape, needs_training, teacher_folder
from kdcore.engine.trainer import first_shape, planned_setup, shared_tokenizer
from kdcore.methods import resolve
from kdcore.models.count import flops, parameters
from kdcore.models.shapes import student_shape
from kdcore.records import Shape, Stage

START_UP = 4.0
"""Seconds for reading, tokenising and building, measured on small tasks."""
PROCESS = 700 * 2**20
"""Bytes of the process with its libraries loaded."""
SAMPLE_ROWS = 512
"""Rows tokenised to learn how long the task's rows are."""


@dataclass(frozen=True)
class Prediction:
    """What a run will take. basis: in words, where the figures come from."""

    seconds: float
    teacher_seconds: float
    memory_bytes: int
    disk_bytes: int
    steps: int
    basis: str


def predict(run: RunConfig) -> Prediction:
    """The cost of a run on this machine, before anything is built.

    Raises:
        UserError: the settings cannot be met.
    """
    data = load(run.task, run.own)
    method, options = resolve(run.method, run.options)
    tokenizer = shared_tokenizer(run, data)
    trained = student_shape(run.student, first_shape(run, data, len(tokenizer)), data.task.outputs)
    student = method.deployed(options, trained)
    where = arithmetic(run.train)
    train, select = train_and_select(data, run.train.select_fraction, run.train.max_train_rows)
    tokens = _padded_tokens(_sample(train, tokenizer, run.train.max_length), run.train.batch_size)
    per_epoch = epoch_steps(run.train, len(train))
    budget = student_steps(run.train, len(train))
    steps = round(budget * (1 + method.pilots(options, len(run.teachers))))
    scored = len(select) + sum(len(data.splits[name]) for name in data.task.splits)
    every = per_epoch if run.train.evaluate_every == "epoch" else run.train.evaluate_every
    rounds = max(1, budget // every) + 2
    rate = _rate(student.width, student.heads, student.intermediate, run.train.batch_size, tokens, where)
    step = _step_seconds(student, run.train.batch_size, tokens, rate)
    training = steps * step + rounds * _forward_seconds(student, scored, tokens, rate)
    teachers = {spec.name: base_shape(spec, data) for spec in run.teachers}
    stages = method(options, planned_setup(run, data, trained, teachers)).stages()
    teaching = sum(
        _teacher_seconds(run, i, data, len(train), scored, tokens, where, rate) for i in range(len(run.teachers))
    )
    teaching += sum(
        share * budget * _forward_seconds(teachers[name], run.train.batch_size, tokens, rate)
        for name, share in _asked_live(stages, teachers, run.train.teacher_cache).items()
    )
    return Prediction(
        START_UP + training + teaching,
        teaching,
        _memory(student, run, tokens),
        _disk(student, run, len(train)),
        steps,
        f"one layer of width {student.width} timed here, {tokens} tokens a row",
    )


def _sample(train: Split, tokenizer: object, max_length: int) -> Encoded:
    chosen = np.linspace(0, len(train) - 1, min(SAMPLE_ROWS, len(train))).astype(np.int64)
    return encode(train.take(chosen), tokenizer, max_length)


def _padded_tokens(rows: Encoded, batch_size: int) -> int:
    """Mean padded length of a bucketed batch: a row's own length, rounded up to 8, and a little for its neighbours."""
    return int(np.mean(np.ceil(rows.lengths / 8) * 8) + 2)


def _step_seconds(shape: Shape, rows: int, tokens: int, rate: float) -> float:
    """Forward and backward (3 forwards' worth) and an update that reads and writes seven numbers a weight."""
    return 3 * flops(shape, tokens, rows) / rate + parameters(shape).total * 28 / _bandwidth()


def _forward_seconds(shape: Shape, rows: int, tokens: int, rate: float) -> float:
    return flops(shape, tokens, rows) / rate


def _teacher_seconds(
    run: RunConfig, index: int, data: TaskData, rows: int, scored: int, tokens: int, where: Arithmetic, rate: float
) -> float:
    """Training a teacher that is not there yet, and one pass of it over all rows."""
    spec = run.teachers[index]
    shape = base_shape(spec, data)
    seconds = _forward_seconds(shape, rows + scored, tokens, rate)
    if needs_training(spec) and not (teacher_folder(spec, data, run.train) / "teacher.json").exists():
        from kdcore.data.pocket.ladder import rung

        recipe = rung(data.task.key, spec.where) if spec.source == "pocket" else spec.fine_tune or FineTune()
        seconds += recipe.epochs * -(-rows // recipe.batch_size) * _step_seconds(shape, recipe.batch_size, tokens, rate)
    return seconds


def _asked_live(stages: list[Stage], teachers: Mapping[str, Shape], cached: bool) -> dict[str, float]:
    """Teacher -> share of the student's steps in which it runs, since what is asked of it is not kept."""
    shares = dict.fromkeys(teachers, 0.0)
    for stage in stages:
        for name in stage.teachers if stage.teachers is not None else teachers:
            kept = cached and teacher_cache.tensors_of(stage.needs.teacher, teachers[name]) is not None
            if stage.needs.teacher and not kept:
                shares[name] += stage.share
    return shares


def _memory(shape: Shape, run: RunConfig, tokens: int) -> int:
    """Weights, gradients and two moments in float32; what a forward pass keeps; a loaded teacher."""
    weights = 16 * parameters(shape).total
    rows = run.train.batch_size // run.train.accumulate
    longest = min(run.train.max_length, 2 * tokens)
    kept = rows * longest * (shape.layers * (16 * shape.width + 2 * shape.intermediate) + shape.width) * 4
    kept += rows * shape.layers * shape.heads * longest * longest * 3 * 4
    return PROCESS + weights + kept


def _disk(shape: Shape, run: RunConfig, rows: int) -> int:
    """Best and last student, a checkpoint while it runs, and the teachers' outputs."""
    weights = parameters(shape).total * 4
    outputs = rows * len(run.teachers) * (shape.width * 4 + 64) if run.train.teacher_cache else 0
    return 2 * weights + 2 * 3 * weights + min(outputs, teacher_cache.budget())


@functools.lru_cache(maxsize=64)
def _rate(width: int, heads: int, intermediate: int, rows: int, tokens: int, where: Arithmetic) -> float:
    """Operations a second of one encoder layer's forward and backward, timed here."""
    keep_freed_memory()
    layer = nn.TransformerEncoderLayer(width, heads, intermediate, dropout=0.0, batch_first=True, activation="gelu")
    layer.to(where.device)
    states = torch.randn(rows, tokens, width, device=where.device)
    shape = Shape(1, width, heads, intermediate, vocabulary=1, positions=1, labels=1)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        with where.autocast():
            out = layer(states)
        out.float().sum().backward()
        if where.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 3 * flops(shape, tokens, rows) / min(times[1:]) * 0.8  # embeddings, dropout and head cost about a quarter


@functools.cache
def _bandwidth() -> float:
    """Bytes a second of adding into a large array."""
    array = torch.ones(8_000_000)
    array.add_(1.0)
    start = time.perf_counter()
    array.add_(1.0)
    return 2 * array.numel() * 4 / (time.perf_counter() - start)
