"""What a run will cost: steps, seconds, memory and disk, from sizes and a quick look at this machine."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from kdcore.config import FineTune, RunConfig, StudentSpec
from kdcore.data import load
from kdcore.data.encode import Encoded, encode
from kdcore.data.splits import Split, TaskData, train_and_select
from kdcore.engine import teacher_cache
from kdcore.engine.device import Compute, compute_for, keep_freed_memory
from kdcore.engine.dropout import seeded_dropout
from kdcore.engine.loop import epoch_steps, stage_steps, student_steps
from kdcore.engine.preflight import run_sizes
from kdcore.engine.teachers import base_size, needs_training, teacher_folder
from kdcore.engine.trainer import check_method, planned_setup, shared_tokenizer
from kdcore.methods import resolve
from kdcore.methods.introspect import depths
from kdcore.models.cls_only import reads_cls_alone
from kdcore.models.count import flops, parameters
from kdcore.models.observe import observe
from kdcore.models.students import build_student
from kdcore.records import Encoding, ModelSize, Stage, want

START_UP = 4.0
"""Seconds for reading, tokenising and building, measured on small tasks."""
PROCESS = 700 * 2**20
"""Bytes of the process with its libraries loaded."""
KERNELS = 8 * 2**20
"""Bytes of the kernels that bf16 products on a CPU keep for each width of batch; MOST_WIDTHS are kept at the most."""
MOST_WIDTHS = 100
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


@dataclass(frozen=True)
class Pace:
    """How fast this machine computes. tokens: mean padded length of a row. rate: operations a second.

    words: how many of the vocabulary the training rows hold; the vectors of the others are not trained.
    """

    tokens: int
    rate: float
    words: int

    def forward(self, shape: ModelSize, rows: int, cls_only: bool = False) -> float:
        """Seconds of one pass over so many rows. cls_only: nothing else of the last layer is computed."""
        return flops(shape, self.tokens, rows, cls_only) / self.rate

    def step(self, shape: ModelSize, rows: int, cls_only: bool = False) -> float:
        """Seconds of forward and backward (3 forwards' worth) and an update that moves seven numbers a weight."""
        unused = max(0, shape.vocabulary - self.words) * (shape.embedding_width or shape.width)
        return 3 * self.forward(shape, rows, cls_only) + (parameters(shape).total - unused) * 28 / _bandwidth()


def predict(run: RunConfig) -> Prediction:
    """The cost of a run on this machine, before anything is built.

    Raises:
        UserError: the settings cannot be met.
    """
    data = load(run.task, run.own)
    method, options = resolve(run.method, run.options)
    check_method(method, run, data)
    tokenizer = shared_tokenizer(run, data)
    student, teachers = run_sizes(run, data, len(tokenizer))
    train, select = train_and_select(data, run.train.select_fraction, run.train.max_train_rows)
    sample = _sample(train, tokenizer, run.train.max_length)
    where = compute_for(run.train)
    padded = np.ceil(sample.lengths / where.pad_to) * where.pad_to
    tokens, longest = int(padded.mean()) + 1, int(padded.max())  # a row has a little padding from its neighbours too
    rate = _rate(student.width, student.heads, student.intermediate, run.train.batch_size, tokens, where)
    pace = Pace(tokens, rate, _words(sample, len(train)))
    built = method(options, planned_setup(run, data, student, teachers))
    shapes = {role: replace(method.deployed(options, student), layers=n) for role, n in depths(built).items()}
    stages, budget = built.stages(), student_steps(run.train, len(train))
    steps = stage_steps(stages, budget)
    scored = len(select) + sum(len(data.splits[name]) for name in data.task.splits)
    every = epoch_steps(run.train, len(train)) if run.train.evaluate_every == "epoch" else run.train.evaluate_every
    training = 2 * pace.forward(next(iter(shapes.values())), scored, cls_only=True)  # the readings at the end
    for stage, count in zip(stages, steps, strict=True):
        judged = len(select) if stage.pilot or stage.judge == "loss" else scored
        training += _stage_seconds(stage, count, -(-count // every) * judged, shapes, run.train.batch_size, pace)
    teaching = sum(_teacher_seconds(run, i, data, len(train), scored, pace) for i in range(len(run.teachers)))
    live = _asked_live(stages, teachers, run.train.teacher_cache)
    teaching += sum(share * budget * pace.forward(teachers[name], run.train.batch_size) for name, share in live.items())
    return Prediction(
        START_UP + training + teaching,
        teaching,
        _memory(shapes, {name: teachers[name] for name, share in live.items() if share}, run, stages, longest, where),
        _disk(shapes, run, len(train)),
        sum(steps),
        f"one layer of width {student.width} timed here, {tokens} tokens a row",
    )


def _sample(train: Split, tokenizer: object, max_length: int) -> Encoded:
    chosen = np.linspace(0, len(train) - 1, min(SAMPLE_ROWS, len(train))).astype(np.int64)
    return encode(train.take(chosen), tokenizer, max_length)


def _words(sample: Encoded, rows: int) -> int:
    """Different words in so many rows, from those in a sample: they grow with about the root of the text (Heaps' law).

    Within a fifth on MRPC, STS-B, RTE and CoLA; twice too many on SST-2, whose rows are parts of one another.
    """
    return round(len(np.unique(sample.input_ids)) * (rows / len(sample)) ** 0.5)


def _stage_seconds(
    stage: Stage, steps: int, judged: int, shapes: Mapping[str, ModelSize], rows: int, pace: Pace
) -> float:
    """Each role at its own depth: who learns, who is run to teach, and the passes that judge the learner.

    judged: rows of all the stage's evaluations together. rows: of a batch.
    """
    learns = [shape for role, shape in shapes.items() if stage.trains(role)]
    teaches = [shape for role, shape in shapes.items() if stage.runs(role) and not stage.trains(role)]
    wanted = stage.needs.student
    step = sum(pace.step(shape, rows, reads_cls_alone(wanted, shape.layers)) for shape in learns)
    step += sum(pace.forward(shape, rows, reads_cls_alone(wanted, shape.layers)) for shape in teaches)
    return steps * step + sum(pace.forward(shape, judged, cls_only=True) for shape in learns[:1])


def _teacher_seconds(run: RunConfig, index: int, data: TaskData, rows: int, scored: int, pace: Pace) -> float:
    """Training a teacher that is not there yet, and one pass of it over all rows."""
    spec = run.teachers[index]
    shape = base_size(spec, data)
    seconds = pace.forward(shape, rows + scored)
    if needs_training(spec) and not (teacher_folder(spec, data, run.train) / "teacher.json").exists():
        from kdcore.data.pocket.ladder import rung

        recipe = rung(data.task.key, spec.where) if spec.source == "pocket" else spec.fine_tune or FineTune()
        seconds += recipe.epochs * -(-rows // recipe.batch_size) * pace.step(shape, recipe.batch_size)
    return seconds


def _asked_live(stages: list[Stage], teachers: Mapping[str, ModelSize], cached: bool) -> dict[str, float]:
    """Teacher -> share of the student's steps in which it runs, since what is asked of it is not kept."""
    shares = dict.fromkeys(teachers, 0.0)
    for stage in stages:
        for name in stage.teachers if stage.teachers is not None else teachers:
            kept = cached and teacher_cache.tensors_of(stage.needs.teacher, teachers[name]) is not None
            if stage.needs.teacher and not kept:
                shares[name] += stage.share
    return shares


def _memory(
    shapes: Mapping[str, ModelSize], live: Mapping[str, ModelSize], run: RunConfig, stages: list[Stage], longest: int,
    where: Compute,
) -> int:  # fmt: skip
    """All models' weights, live teachers' too; gradients, two moments and a forward pass of the deepest; kernels."""
    deepest = max(shapes.values(), key=lambda shape: shape.layers)
    weights = _weights(shapes) + _weights(live) + 12 * parameters(deepest).total
    rows = run.train.batch_size // run.train.accumulate
    lean = all(reads_cls_alone(stage.needs.student, deepest.layers) for stage in stages)
    layers = deepest.layers - 1 if lean else deepest.layers  # [CLS] alone leaves next to nothing of the last
    kept = rows * longest * (layers * (16 * deepest.width + 2 * deepest.intermediate) + deepest.width) * 4
    kept += rows * layers * deepest.heads * longest * longest * 3 * 4
    made = where.device.type == "cpu" and where.precision == "bf16"
    kernels = KERNELS * min(longest // where.pad_to, MOST_WIDTHS) if made else 0
    return PROCESS + weights + kept + kernels


def _disk(shapes: Mapping[str, ModelSize], run: RunConfig, rows: int) -> int:
    """Best and last student; two checkpoints while it runs, with the moments of who learns; teachers' outputs."""
    student = next(iter(shapes.values()))
    moments = 8 * max(parameters(shape).total for shape in shapes.values())
    outputs = rows * len(run.teachers) * (student.width * 4 + 64) if run.train.teacher_cache else 0
    return 8 * parameters(student).total + 2 * (_weights(shapes) + moments) + min(outputs, teacher_cache.budget())


def _weights(shapes: Mapping[str, ModelSize]) -> int:
    """Bytes of all models in float32."""
    return 4 * sum(parameters(shape).total for shape in shapes.values())


@functools.lru_cache(maxsize=64)
def _rate(width: int, heads: int, intermediate: int, rows: int, tokens: int, where: Compute) -> float:
    """Operations a second of a student of one whole layer, forward and backward as in a step, timed here."""
    keep_freed_memory()
    shape = ModelSize(1, width, heads, intermediate, vocabulary=100, positions=tokens, labels=1)
    model = build_student(shape, 1, StudentSpec(layers=1, init="random"), None, seed=0, dropout=0.1).to(where.device)
    ids = torch.ones(rows, tokens, dtype=torch.int64, device=where.device)
    encoding = Encoding(ids, ids, torch.zeros_like(ids))
    times = []
    with seeded_dropout(model.train(), torch.Generator()):
        for _ in range(6):
            start = time.perf_counter()
            with where.autocast():
                states = observe(model, encoding, want(hidden=(1,))).hidden[1]
            states.square().mean().backward()
            if where.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return 3 * flops(shape, tokens, rows) / min(times[1:])  # the first makes kernels and finds memory


@functools.cache
def _bandwidth() -> float:
    """Bytes a second of adding into a large array."""
    array = torch.ones(8_000_000)
    array.add_(1.0)
    start = time.perf_counter()
    array.add_(1.0)
    return 2 * array.numel() * 4 / (time.perf_counter() - start)
