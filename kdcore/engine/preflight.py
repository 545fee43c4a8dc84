"""Before a run starts: is anything wrong with it, and what will it cost? Each line has a reason and a remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import psutil
import torch

from kdcore import paths
from kdcore.config import TeacherSpec
from kdcore.data.notes import Note
from kdcore.engine import teacher_cache
from kdcore.engine.data_checks import about_labels, about_rows, known_lengths
from kdcore.engine.device import hardware
from kdcore.engine.estimate import Prediction, predict
from kdcore.engine.model_checks import check_initial_weights, check_other_depths, teacher_notes, tokenizer_notes
from kdcore.engine.plan import Plan, check_method
from kdcore.engine.plan_checks import check_layers, check_length, check_others, check_vocabularies
from kdcore.engine.teacher_source import needs_training
from kdcore.errors import UserError
from kdcore.formatting import duration
from kdcore.models.count import parameters
from kdcore.tasks import METRICS

Level = Literal["ok", "warn", "block"]

WEAK_MARGIN = 0.08
"""A teacher less than this above a blind guess has little to teach."""


@dataclass(frozen=True)
class Line:
    """One check. block: the run would be meaningless or cannot be done. remedy is empty where nothing is wrong."""

    level: Level
    field: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """All checks of a run, and what it will cost. forecast: None where the settings alone block it."""

    lines: tuple[Line, ...]
    forecast: Prediction | None = None

    @property
    def blocks(self) -> list[Line]:
        """The lines that keep the run from starting."""
        return [line for line in self.lines if line.level == "block"]


def check(plan: Plan) -> Report:
    """All checks of a run, without training or loading weights. Never raises for bad settings: they become lines.

    >>> from kdcore.config import RunConfig, StudentSpec
    >>> student = StudentSpec(layers=2, width=32, heads=2, init="random")
    >>> check(Plan(RunConfig(task="pocket-sentiment", method="kd", student=student))).blocks[0].field
    'teachers'
    """
    try:
        _ = plan.data
    except UserError as error:  # without rows there is nothing else to say
        return Report((_blocking(error),))
    lines = tuple(dict.fromkeys(line for each in CHECKS for line in _lines(each, plan)))  # one fault stops several
    if Report(lines).blocks:
        return Report(lines)
    try:
        forecast = predict(plan)
    except UserError as error:
        return Report((*lines, _blocking(error)))
    return Report((*lines, *_resources(plan, forecast)), forecast)


def _lines(check: Callable[[Plan], Iterable[Line]], plan: Plan) -> Iterator[Line]:
    """The check's lines; where it raises, a line that blocks."""
    try:
        yield from check(plan)
    except UserError as error:
        yield _blocking(error)


def _as_lines(notes: Iterable[Note]) -> Iterator[Line]:
    return (Line(note.level, note.field, note.text, note.remedy) for note in notes)


def _blocking(error: UserError) -> Line:
    return Line("block", error.field, error.problem, error.remedy)


def _rows(plan: Plan) -> Iterator[Line]:
    data, train, select = plan.data, plan.rows.train.labelled, plan.select_rows
    text = f"{data.task.title}: {len(train):,} rows to learn from, {len(select):,} kept aside to decide on"
    yield Line("ok", "task", f"{text} ({data.source})")
    if data.task.synthetic:
        yield Line("warn", "task", "the sentences are generated", "take its numbers for a lesson, not for a result")
    if data.partial:
        yield Line("warn", "task", data.partial, "name it wherever you report a score")
    if data.task.kind == "classification":
        counts = np.bincount(train.labels.astype(np.int64), minlength=data.task.outputs)
        if (counts == 0).any():
            missing = ", ".join(data.task.labels[i] for i in np.flatnonzero(counts == 0))
            yield Line("block", "task", f"no training row has the label {missing}", "use more rows")


def _row_contents(plan: Plan) -> Iterator[Line]:
    return _as_lines(about_rows(plan.data, plan.rows, plan.config.train.max_length, known_lengths(plan)))


def _labels(plan: Plan) -> Iterator[Line]:
    return _as_lines(about_labels(plan))


def _method_suits(plan: Plan) -> Iterable[Line]:
    check_method(plan)
    return ()


def _other_tasks(plan: Plan) -> Iterator[Line]:
    check_others(plan)
    for key, data in plan.others.items():
        rows = plan.other_rows[key].train
        yield Line("ok", "also", f"{data.task.title}: {len(rows):,} rows to learn from ({data.source})")
        if data.partial:
            yield Line("warn", "also", f"{data.task.title}: {data.partial}", "name it wherever you report a score")
        for spec in plan.config.teachers:
            if not (plan.teacher_folder(spec, key) / "teacher.json").exists():
                text = f"{spec.name} is trained on {data.task.title} first, once, and then kept"
                yield Line("ok", f"teachers.{spec.name}", text)


def _device(plan: Plan) -> Iterator[Line]:
    name, budget = hardware(str(plan.compute.device)), teacher_cache.budget() / 2**30
    yield Line("ok", "device", f"{name}, {plan.compute.precision}; teacher outputs take up to {budget:.0f} GB")


def _length(plan: Plan) -> Iterable[Line]:
    check_length(plan)
    return ()


def _vocabulary(plan: Plan) -> Iterator[Line]:
    return _as_lines(tokenizer_notes(plan))


def _method_fits(plan: Plan) -> Iterator[Line]:
    title = plan.method.title
    yield Line("ok", "method", f"{title} fits this student and its teachers")
    for warning in plan.method.warnings(plan.config):
        yield Line("warn", warning.field, warning.problem, warning.remedy)


def _vocabularies_fit(plan: Plan) -> Iterable[Line]:
    check_vocabularies(plan)
    return ()


def _stages_have_steps(plan: Plan) -> Iterable[Line]:
    _ = plan.steps
    return ()


def _initial_weights(plan: Plan) -> Iterator[Line]:
    check_initial_weights(plan)
    if plan.config.student.init == "random" and any("embeddings" in stage.frozen for stage in plan.stages):
        yield Line(
            "warn", "student.init",
            f"{plan.method.title} keeps the student's embeddings as they start, and these start at random",
            "start from the teacher, or let the method's options train the embeddings",
        )  # fmt: skip


def _layers_are_there(plan: Plan) -> Iterable[Line]:
    check_layers(plan)
    return ()


def _other_depths(plan: Plan) -> Iterable[Line]:
    check_other_depths(plan)
    return ()


def _teachers(plan: Plan) -> Iterator[Line]:
    for spec in plan.config.teachers:
        yield from _lines(partial(_teacher, spec=spec), plan)


def _teacher(plan: Plan, spec: TeacherSpec) -> Iterator[Line]:
    field, metric = f"teachers.{spec.name}", plan.data.task.main_metric
    if not needs_training(spec):
        yield from _as_lines(teacher_notes(spec, plan.data))
        return
    try:
        score = float(json.loads((plan.teacher_folder(spec) / "teacher.json").read_text())["select"])
    except (OSError, ValueError, KeyError, TypeError):
        yield Line("ok", field, f"{spec.name} is trained on {plan.data.task.title} first, once, and then kept")
        return
    guess = plan.blind_guess("select")[metric]
    name = METRICS[metric].split(" (")[0]
    text = f"{name} {100 * score:.1f} on rows kept aside, a blind guess has {100 * guess:.1f}"
    if score < guess + WEAK_MARGIN:
        yield Line("warn", field, f"weak teacher: {text}", "expect little from it, or choose a stronger base")
    elif score < 0.5 and metric in ("matthews", "pearson", "spearman"):
        yield Line("warn", field, f"mediocre teacher: {text}", "a student can hardly pass it")
    else:
        yield Line("ok", field, f"{spec.name}: {text}")


CHECKS: tuple[Callable[[Plan], Iterable[Line]], ...] = (
    _rows, _row_contents, _method_suits, _other_tasks, _labels, _device, _length, _vocabulary, _method_fits,
    _stages_have_steps, _layers_are_there, _vocabularies_fit, _other_depths, _initial_weights, _teachers,
)  # fmt: skip
"""What the settings alone tell, in the order in which people read it."""


def _resources(plan: Plan, forecast: Prediction) -> Iterator[Line]:
    """Whether disk and memory suffice; the teachers' sizes."""
    free = shutil.disk_usage(paths.cache_dir()).free
    if forecast.disk_bytes > free:
        yield Line(
            "block", "disk", f"needs {forecast.disk_bytes / 2**30:.1f} GB, {free / 2**30:.1f} GB are free",
            "free space, or move the cache with KD_CACHE_DIR",
        )  # fmt: skip
    on_gpu = plan.compute.device.type == "cuda"
    memory = torch.cuda.mem_get_info(plan.compute.device)[0] if on_gpu else psutil.virtual_memory().available
    if forecast.memory_bytes > memory:
        yield Line(
            "block", "train.batch_size",
            f"needs about {forecast.memory_bytes / 2**30:.1f} GB of memory, {memory / 2**30:.1f} GB are free",
            "raise accumulate, or lower batch_size or max_length",
        )  # fmt: skip
    if forecast.saliency_seconds:
        price = duration(max(1.0, forecast.saliency_seconds))
        yield Line("ok", "probes.saliency", f"saliency loyalty adds about {price} at the end")
    for name, size in plan.teacher_sizes.items():
        yield Line("ok", f"teachers.{name}.size", f"{parameters(size).total / 1e6:.1f} M parameters")
