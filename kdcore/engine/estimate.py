"""What a run will cost: steps, seconds, memory and disk, from sizes and a quick look at this machine."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kdcore.config import StudentSpec, TeacherSpec
from kdcore.data.encode import Encoded, encode
from kdcore.data.splits import Split
from kdcore.engine import teacher_cache
from kdcore.engine.device import Compute, keep_freed_memory
from kdcore.engine.dropout import seeded_dropout
from kdcore.engine.plan import Plan
from kdcore.engine.schedule import epoch_steps
from kdcore.engine.teacher_source import needs_training, recipe_of
from kdcore.methods.introspect import sizes as sizes_of
from kdcore.models.cls_only import reads_cls_alone
from kdcore.models.count import flops, parameters
from kdcore.models.observe import observe, rerun_of
from kdcore.models.students import build_student
from kdcore.probes.saliency import ROWS
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
    """What a run will take. basis: in words, where the figures come from. saliency_seconds: of saliency loyalty."""

    seconds: float
    teacher_seconds: float
    memory_bytes: int
    disk_bytes: int
    steps: int
    basis: str
    saliency_seconds: float = 0.0


@dataclass(frozen=True)
class Pace:
    """How fast this machine computes. tokens: mean padded length of a row. rate: operations a second.

    vocabulary: how many different words the training rows hold; the vectors of the others are not trained.
    rerun_rate: operations a second of passes that are run again in float32 and differentiated twice.
    """

    tokens: int
    rate: float
    vocabulary: int
    rerun_rate: float

    def forward(self, size: ModelSize, rows: int, cls_only: bool = False) -> float:
        """Seconds of one pass over so many rows. cls_only: nothing else of the last layer is computed."""
        return flops(size, self.tokens, rows, cls_only) / self.rate

    def step(self, size: ModelSize, rows: int, cls_only: bool = False) -> float:
        """Seconds of forward and backward (3 forwards' worth) and an update that moves seven numbers a weight."""
        unused = max(0, size.vocabulary - self.vocabulary) * (size.embedding_width or size.width)
        return 3 * self.forward(size, rows, cls_only) + (parameters(size).total - unused) * 28 / _bandwidth()


def predict(plan: Plan) -> Prediction:
    """The cost of a run on this machine, before anything is built.

    Raises:
        UserError: the settings cannot be met.
    """
    train = plan.config.train
    sizes = sizes_of(plan.method, plan.deployed_size)
    pace, longest = _pace(plan)
    student, rows = plan.student_size, len(plan.training_rows)
    training = sum(
        _stage_seconds(stage, steps, _judged_rows(plan, stage, steps), sizes, train.batch_size, pace)
        for stage, steps in zip(plan.stages, plan.steps, strict=True)
    )
    scored = _scored_rows(plan)
    training += 2 * pace.forward(next(iter(sizes.values())), scored, cls_only=True)  # the final scores
    teaching = sum(_teacher_seconds(plan, spec, rows, scored, pace) for spec in plan.config.teachers)
    training += sum(
        steps * _rerun_seconds(stage, sizes, plan.teacher_sizes, train.batch_size, pace)
        for stage, steps in zip(plan.stages, plan.steps, strict=True)
    )
    loyalty = _saliency_seconds(plan, pace)
    live = _live_shares(plan.stages, sizes, plan.teacher_sizes, train.teacher_cache)
    asked = {**sizes, **plan.teacher_sizes}
    teaching += sum(share * plan.budget * pace.forward(asked[name], train.batch_size) for name, share in live.items())
    own = (role for stage in plan.stages for role in stage.adopt if not live[role])
    teaching += sum(pace.forward(sizes[role], rows) for role in own)  # once, then kept
    return Prediction(
        seconds=START_UP + training + teaching + loyalty,
        teacher_seconds=teaching,
        memory_bytes=_memory(plan, sizes, [asked[name] for name, share in live.items() if share], longest),
        disk_bytes=_disk(plan, sizes),
        steps=sum(plan.steps),
        basis=f"estimated from timing one {student.width}-wide layer on this machine, {pace.tokens} tokens a row",
        saliency_seconds=loyalty,
    )


def _pace(plan: Plan) -> tuple[Pace, int]:
    """How fast this machine computes the run's rows, and the longest of them in tokens."""
    train, student, pad_to = plan.config.train, plan.student_size, plan.compute.pad_to
    sample = _sample(plan.training_rows, plan.tokenizer, train.max_length)
    padded = np.ceil(sample.lengths / pad_to) * pad_to
    tokens = int(padded.mean()) + 1  # a row has a little padding from its neighbours too
    timed = (student.width, student.heads, student.intermediate, train.batch_size, tokens, plan.compute)
    rate = _rate(*timed)
    rerun_rate = _rerun_rate(*timed) if any(stage.needs.rerun for stage in plan.stages) else rate
    return Pace(tokens, rate, _vocabulary(sample, len(plan.training_rows)), rerun_rate), int(padded.max())


def _scored_rows(plan: Plan) -> int:
    """`select` and the dev splits together."""
    data = plan.data
    return len(plan.select_rows) + sum(len(data.splits[name]) for name in data.task.splits)


def _judged_rows(plan: Plan, stage: Stage, steps: int) -> int:
    """Rows of all evaluations of a stage of so many steps, and of its method's probes."""
    train = plan.config.train
    every = epoch_steps(train, plan.rows.epoch) if train.evaluate_every == "epoch" else train.evaluate_every
    select_alone = stage.pilot or stage.judge == "loss"
    probed = min(stage.probes, steps) * len(plan.select_rows)
    return probed + -(-steps // every) * (len(plan.select_rows) if select_alone else _scored_rows(plan))


def _sample(train: Split, tokenizer: object, max_length: int) -> Encoded:
    chosen = np.linspace(0, len(train) - 1, min(SAMPLE_ROWS, len(train))).astype(np.int64)
    return encode(train.take(chosen), tokenizer, max_length)


def _vocabulary(sample: Encoded, rows: int) -> int:
    """Different words in so many rows, from those in a sample: they grow with about the root of the text (Heaps' law).

    Within a fifth on MRPC, STS-B, RTE and CoLA; twice too many on SST-2, whose rows are parts of one another.
    """
    result: int = round(len(np.unique(sample.input_ids)) * (rows / len(sample)) ** 0.5)
    return result


def _stage_seconds(
    stage: Stage, steps: int, judged: int, sizes: Mapping[str, ModelSize], rows: int, pace: Pace
) -> float:
    """Each role at its own depth: who learns, who is run to teach, and the passes that judge the learner.

    judged: rows of all the stage's evaluations together. rows: of a batch.
    """
    step = 0.0
    for role, size in sizes.items():
        if stage.runs(role):
            of_role = pace.step if stage.trains(role) else pace.forward
            step += of_role(size, rows, reads_cls_alone(stage.needs.of_student(role), size.layers))
    learns = [size for role, size in sizes.items() if stage.trains(role)]
    return steps * step + sum(pace.forward(size, judged, cls_only=True) for size in learns[:1])


def _rerun_seconds(
    stage: Stage, sizes: Mapping[str, ModelSize], teachers: Mapping[str, ModelSize], rows: int, pace: Pace
) -> float:
    """Of a step's passes that are run again: their forwards, and a forward's worth for each gradient. A learner's are
    differentiated again, which costs twice as much once more; or its last one alone is, in place of a gradient."""
    needs, asked = stage.needs, {**sizes, **teachers}
    learners = [size for role, size in sizes.items() if stage.trains(role) and "student" in needs.rerun]
    guides = [asked[name] for name in stage.asks(teachers) if "teacher" in needs.rerun]
    once = 1 + needs.gradients
    learning = 3 * needs.passes * once if needs.order == 2 else needs.passes * once + 1
    work = [learning * flops(size, pace.tokens, rows) for size in learners]
    work += [needs.passes * once * flops(size, pace.tokens, rows) for size in guides]
    return sum(work) / pace.rerun_rate


def _teacher_seconds(plan: Plan, spec: TeacherSpec, rows: int, scored: int, pace: Pace) -> float:
    """Training a teacher that is not there yet, and one pass of it over all rows."""
    size = plan.teacher_sizes[spec.name]
    seconds = pace.forward(size, rows + scored)
    if needs_training(spec) and not (plan.teacher_folder(spec) / "teacher.json").exists():
        recipe = recipe_of(spec, plan.data)
        learned = plan.rows.epoch - plan.rows.added
        seconds += recipe.epochs * -(-learned // recipe.batch_size) * pace.step(size, recipe.batch_size)
    return seconds


def _saliency_seconds(plan: Plan, pace: Pace) -> float:
    """Of saliency loyalty: for each teacher, its answers, and a pass back and forth of it and of the student."""
    if not plan.config.probes.saliency:
        return 0.0
    rows = min(ROWS, len(plan.data.splits[plan.data.task.splits[0]]))
    student = 3 * pace.forward(plan.student_size, rows)
    return sum(student + 4 * pace.forward(plan.teacher_sizes[spec.name], rows) for spec in plan.config.teachers)


def _live_shares(
    stages: list[Stage], roles: Mapping[str, ModelSize], teachers: Mapping[str, ModelSize], cached: bool
) -> dict[str, float]:
    """Teacher -> share of the student's steps in which it runs, since what is asked of it is not kept.

    roles: of whom the run may make teachers.
    """
    asked = {**roles, **teachers}
    shares = dict.fromkeys(asked, 0.0)
    for stage in stages:
        for name in stage.asks(teachers):
            if not cached or teacher_cache.tensors_of(stage.needs.of_teacher(name), asked[name]) is None:
                shares[name] += stage.share
    return shares


def _memory(plan: Plan, sizes: Mapping[str, ModelSize], live: list[ModelSize], longest: int) -> int:
    """All models' weights, live teachers' too; what the stage that needs most adds for its learners; kernels.

    longest: row, in tokens.
    """
    train, compute = plan.config.train, plan.compute
    rows = train.batch_size // train.accumulate
    learning = max(_learning(stage, sizes, plan.teacher_sizes, rows, longest) for stage in plan.stages)
    has_kernels = compute.device.type == "cpu" and compute.precision == "bf16"
    kernels = KERNELS * min(longest // compute.pad_to, MOST_WIDTHS) if has_kernels else 0
    return PROCESS + _weights([*sizes.values(), *live]) + learning + kernels


def _learning(
    stage: Stage, sizes: Mapping[str, ModelSize], teachers: Mapping[str, ModelSize], rows: int, longest: int
) -> int:
    """Bytes of gradient, two moments and a forward pass of all who learn at once, and of passes that are run again.

    A student's passes keep the graphs of their gradients too, where these are part of the loss; a teacher's, one at a
    time, has float32 weights of its own.
    """
    total = 0
    for role, size in sizes.items():
        if stage.trains(role):
            lean = reads_cls_alone(stage.needs.of_student(role), size.layers)
            total += 12 * parameters(size).total + _activations(size, rows, longest, lean)
            if "student" in stage.needs.rerun:
                needs = stage.needs
                graphs = needs.passes * (1 + 2 * needs.gradients) if needs.order == 2 else 1
                total += graphs * _activations(size, rows, longest)
    if "teacher" in stage.needs.rerun:
        asked = {**sizes, **teachers}
        for name in stage.asks(teachers):
            total += _weights([asked[name]]) + _activations(asked[name], rows, longest)
    return total


def _activations(size: ModelSize, rows: int, longest: int, cls_only: bool = False) -> int:
    """Bytes of what one forward pass keeps for the backward one."""
    layers = size.layers - 1 if cls_only else size.layers  # [CLS] alone leaves next to nothing of the last
    states = rows * longest * (layers * (16 * size.width + 2 * size.intermediate) + size.width) * 4
    return states + rows * layers * size.heads * longest * longest * 3 * 4


def _disk(plan: Plan, sizes: Mapping[str, ModelSize]) -> int:
    """Best and last student, and teachers that the run makes; two checkpoints while it runs, with the moments of who
    learns; teachers' outputs."""
    student, teachers = next(iter(sizes.values())), plan.config.teachers
    moments = 8 * max(
        sum(parameters(size).total for role, size in sizes.items() if stage.trains(role)) for stage in plan.stages
    )
    own = [sizes[role] for stage in plan.stages for role in stage.adopt]
    stored = len(plan.training_rows) * (len(teachers) + len(own)) * (student.width * 4 + 64)
    outputs = stored if plan.config.train.teacher_cache else 0
    return (
        8 * parameters(student).total + _weights(own) + 2 * (_weights(sizes.values()) + moments)
        + min(outputs, teacher_cache.budget())
    )  # fmt: skip


def _weights(sizes: Iterable[ModelSize]) -> int:
    """Bytes of all models in float32."""
    return 4 * sum(parameters(size).total for size in sizes)


@functools.lru_cache(maxsize=64)
def _rate(width: int, heads: int, intermediate: int, rows: int, tokens: int, compute: Compute) -> float:
    """Operations a second of a student of one whole layer, forward and backward as in a step, timed here."""
    model, size, encoding = _one_layer(width, heads, intermediate, rows, tokens, compute)

    def step() -> None:
        with compute.autocast():
            states = observe(model, encoding, want(hidden=(1,))).hidden[1]
        states.square().mean().backward()

    return 3 * flops(size, tokens, rows) / _seconds_of(step, model, compute)


@functools.lru_cache(maxsize=64)
def _rerun_rate(width: int, heads: int, intermediate: int, rows: int, tokens: int, compute: Compute) -> float:
    """The same of a layer that is run again, with the gradient at its input differentiated."""
    model, size, encoding = _one_layer(width, heads, intermediate, rows, tokens, compute)
    rerun = rerun_of(model, encoding, {})

    def step() -> None:
        again = rerun(None, None, False)
        (slope,) = torch.autograd.grad(again.hidden[1].square().mean(), again.hidden[0], create_graph=True)
        slope.square().mean().backward()

    return 6 * flops(size, tokens, rows) / _seconds_of(step, model, compute)


def _one_layer(
    width: int, heads: int, intermediate: int, rows: int, tokens: int, compute: Compute
) -> tuple[nn.Module, ModelSize, Encoding]:
    """A student to be timed, its size, and a batch of ones."""
    keep_freed_memory()
    size = ModelSize(1, width, heads, intermediate, vocabulary=100, positions=tokens, labels=1)
    model = build_student(size, 1, StudentSpec(layers=1, init="random"), None, seed=0, dropout=0.1).to(compute.device)
    ids = torch.ones(rows, tokens, dtype=torch.int64, device=compute.device)
    return model.train(), size, Encoding(ids, ids, torch.zeros_like(ids))


def _seconds_of(step: Callable[[], None], model: nn.Module, compute: Compute) -> float:
    """The best of several, after one that makes kernels and finds memory."""
    times = []
    with seeded_dropout(model, torch.Generator()):
        for _ in range(6):
            start = time.perf_counter()
            step()
            if compute.device.type == "cuda":
                torch.cuda.synchronize(compute.device)
            times.append(time.perf_counter() - start)
    return min(times[1:])


@functools.cache
def _bandwidth() -> float:
    """Bytes a second of adding into a large array."""
    array = torch.ones(8_000_000)
    array.add_(1.0)
    start = time.perf_counter()
    array.add_(1.0)
    return 2 * array.numel() * 4 / (time.perf_counter() - start)
