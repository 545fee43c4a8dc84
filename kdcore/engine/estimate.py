"""What a run will cost: steps, seconds, memory and disk, from sizes and a quick look at this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from kdcore.config import TeacherSpec
from kdcore.data.encode import Encoded, encode
from kdcore.data.splits import Split
from kdcore.engine import teacher_cache
from kdcore.engine.pace import Pace, timed
from kdcore.engine.plan import Plan
from kdcore.engine.schedule import epoch_steps
from kdcore.engine.teacher_source import needs_training, recipe_of
from kdcore.methods.introspect import sizes as sizes_of
from kdcore.models.cls_only import reads_cls_alone
from kdcore.models.count import parameters
from kdcore.probes.saliency import ROWS
from kdcore.records import ModelSize, Stage

START_UP = 4.0
"""Seconds for reading, tokenising and building, measured on small tasks."""
PROCESS = 700 * 2**20
"""Bytes of the process with its libraries loaded."""
KERNELS = 8 * 2**20
"""Bytes of the kernels that bf16 products on a CPU keep for each width of batch; MOST_WIDTHS are kept at the most."""
PASSING = 0.7
"""Share of what a forward pass keeps for the backward one that a frozen model's keeps for the gradient at its input,
and that differentiating a gradient takes while it is under way. Measured on layers 384 wide, of 64 and 100 tokens."""
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


def predict(plan: Plan) -> Prediction:
    """The cost of a run on this machine, before anything is built.

    Raises:
        UserError: the settings cannot be met.
    """
    train = plan.config.train
    sizes = sizes_of(plan.method, plan.deployed_size)
    pace, longest = pace_of(plan)
    paces = _teacher_paces(plan, pace)
    student, rows = plan.student_size, len(plan.training_rows)
    training = sum(
        _stage_seconds(stage, steps, _judged_rows(plan, stage, steps), sizes, train.batch_size, pace)
        for stage, steps in zip(plan.stages, plan.steps, strict=True)
    )
    scored = _scored_rows(plan)
    training += 2 * pace.forward(next(iter(sizes.values())), scored, cls_only=True)  # the final scores
    teaching = sum(_teacher_seconds(plan, spec, rows, scored, paces[spec.name]) for spec in plan.config.teachers)
    training += sum(
        steps * _rerun_seconds(stage, sizes, plan.teacher_sizes, train.batch_size, pace, paces)
        for stage, steps in zip(plan.stages, plan.steps, strict=True)
    )
    loyalty = _saliency_seconds(plan, pace, paces)
    live = _live_shares(plan.stages, sizes, plan.teacher_sizes, train.teacher_cache)
    asked = {**sizes, **plan.teacher_sizes}
    teaching += sum(
        share * plan.budget * paces.get(name, pace).forward(asked[name], train.batch_size)
        for name, share in live.items()
    )
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


def pace_of(plan: Plan) -> tuple[Pace, int]:
    """How fast this machine computes the run's rows, and the longest of them in tokens."""
    train, student, pad_to = plan.config.train, plan.student_size, plan.compute.pad_to
    of_tasks = [plan.training_rows, *(rows.train for rows in plan.other_rows.values())]
    samples = [_sample(rows, plan.tokenizer, train.max_length) for rows in of_tasks]
    padded = [np.ceil(sample.lengths / pad_to) * pad_to for sample in samples]
    mean = np.average([lengths.mean() for lengths in padded], weights=[len(rows) for rows in of_tasks])
    tokens = int(mean) + 1  # a row has a little padding from its neighbours too
    again = any(stage.needs.rerun for stage in plan.stages)
    rates = timed(student.width, student.heads, student.intermediate, train.batch_size, tokens, plan.compute, again)
    pace = Pace(tokens, _vocabulary(samples, sum(map(len, of_tasks))), rates)
    return pace, int(max(lengths.max() for lengths in padded))


def _teacher_paces(plan: Plan, pace: Pace) -> dict[str, Pace]:
    """Teacher -> the pace at the run's rows as it reads them: with another tokenizer they are longer or shorter."""
    tokens = {"": pace.tokens}
    for key, tokenizer in plan.other_tokenizers.items():
        lengths = _sample(plan.training_rows, tokenizer, plan.config.train.max_length).lengths
        tokens[key] = int((np.ceil(lengths / plan.compute.pad_to) * plan.compute.pad_to).mean()) + 1
    return {name: replace(pace, tokens=tokens[key]) for name, key in plan.readings.items()}


def _scored_rows(plan: Plan) -> int:
    """`select` and the dev splits together."""
    data = plan.data
    return len(plan.select_rows) + sum(len(data.splits[name]) for name in data.task.splits)


def _judged_rows(plan: Plan, stage: Stage, steps: int) -> int:
    """Rows of all evaluations of a stage of so many steps, and of its method's probes."""
    train = plan.config.train
    every = epoch_steps(train, *plan.epoch_rows) if train.evaluate_every == "epoch" else train.evaluate_every
    select_alone = stage.pilot or stage.judge == "loss"
    rows = len(plan.select_rows) if stage.probe_rows is None else stage.probe_rows
    probed = min(stage.probes, steps) * rows
    return probed + -(-steps // every) * (len(plan.select_rows) if select_alone else _scored_rows(plan))


def _sample(train: Split, tokenizer: object, max_length: int) -> Encoded:
    chosen = np.linspace(0, len(train) - 1, min(SAMPLE_ROWS, len(train))).astype(np.int64)
    return encode(train.take(chosen), tokenizer, max_length)


def _vocabulary(samples: list[Encoded], rows: int) -> int:
    """Different words in so many rows, from those in samples: they grow with about the root of the text (Heaps' law).

    Within a fifth on MRPC, STS-B, RTE and CoLA; twice too many on SST-2, whose rows are parts of one another.
    """
    words = np.unique(np.concatenate([sample.input_ids for sample in samples]))
    result: int = round(len(words) * (rows / sum(map(len, samples))) ** 0.5)
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
    stage: Stage, sizes: Mapping[str, ModelSize], teachers: Mapping[str, ModelSize], rows: int, pace: Pace,
    paces: Mapping[str, Pace],
) -> float:  # fmt: skip
    """Of a step's passes that are run again: their forwards, and a forward's worth for each gradient. A learner's are
    differentiated again, which costs twice as much once more; or its last one alone is, in place of a gradient, and
    then the teacher's last one has none.

    paces: of teachers, at their own tokens.
    """
    needs, asked = stage.needs, {**sizes, **teachers}
    learners = [role for role in sizes if stage.trains(role) and "student" in needs.rerun]
    guides = [name for name in stage.asks(teachers) if "teacher" in needs.rerun]
    each = needs.passes * (1 + needs.gradients)
    twice = needs.order == 2
    price, worth, guided = (pace.twice, 3 * each, each) if twice else (pace.exact, each + 1, each - needs.gradients)
    lean = {role: reads_cls_alone(needs.of_student(role), sizes[role].layers) for role in learners}
    lean |= {name: reads_cls_alone(needs.of_teacher(name), asked[name].layers) for name in guides}
    seconds = sum(price(sizes[role], rows, worth, lean[role]) for role in learners)
    return seconds + sum(paces.get(name, pace).exact(asked[name], rows, guided, lean[name]) for name in guides)


def _teacher_seconds(plan: Plan, spec: TeacherSpec, rows: int, scored: int, pace: Pace) -> float:
    """Training a teacher that is not there yet, and one pass of it over all rows; so on each task."""
    size, others = plan.teacher_sizes[spec.name], {key: len(each.train) for key, each in plan.other_rows.items()}
    seconds = pace.forward(size, rows + scored + sum(others.values()))
    for key, learned in {"": plan.rows.epoch - plan.rows.added, **others}.items():
        if needs_training(spec) and not (plan.teacher_folder(spec, key) / "teacher.json").exists():
            recipe = recipe_of(spec, plan.others[key] if key else plan.data)
            seconds += recipe.epochs * -(-learned // recipe.batch_size) * pace.step(size, recipe.batch_size)
    return seconds


def _saliency_seconds(plan: Plan, pace: Pace, paces: Mapping[str, Pace]) -> float:
    """Of saliency loyalty: for each teacher, its answers, and a pass back and forth of it and of the student."""
    if not plan.config.probes.saliency:
        return 0.0
    rows = min(ROWS, len(plan.data.splits[plan.data.task.splits[0]]))
    student = pace.exact(plan.student_size, rows, 3)
    return sum(student + paces[name].exact(size, rows, 4) for name, size in plan.teacher_sizes.items())


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
            kept = cached and not stage.live
            if not kept or teacher_cache.tensors_of(stage.needs.of_teacher(name), asked[name]) is None:
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

    A student's passes keep the graphs of their gradients too, where these are part of the loss, until they are
    differentiated; a teacher's, one at a time and before that, has float32 weights of its own.
    """
    total = passing = 0
    for role, size in sizes.items():
        if stage.trains(role):
            lean = reads_cls_alone(stage.needs.of_student(role), size.layers)
            graph = _activations(size, rows, longest, lean)
            total += 12 * parameters(size).total + graph
            if "student" in stage.needs.rerun:
                graphs, needs = 1, stage.needs
                if needs.order == 2:
                    graphs, passing = needs.passes * (1 + needs.gradients), max(passing, graph)
                total += graphs * graph
    if "teacher" in stage.needs.rerun:
        asked = {**sizes, **teachers}
        for name in stage.asks(teachers):
            total += _weights([asked[name]])
            lean = reads_cls_alone(stage.needs.of_teacher(name), asked[name].layers)
            passing = max(passing, _activations(asked[name], rows, longest, lean))
    return total + round(PASSING * passing)


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
