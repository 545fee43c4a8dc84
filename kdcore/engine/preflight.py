"""Before a run starts: is anything wrong with it, and what will it cost? Each line has a reason and a remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import psutil
from torch import nn

from kdcore import paths
from kdcore.config import RunConfig, TeacherSpec
from kdcore.data import load
from kdcore.data.splits import TaskData, train_and_select
from kdcore.engine import teacher_cache
from kdcore.engine.device import compute_for, hardware
from kdcore.engine.evaluate import scores
from kdcore.engine.loop import stage_steps, student_steps
from kdcore.engine.teachers import base_size, check_has_base, needs_training, teacher_folder
from kdcore.engine.trainer import check_length, check_method, planned_setup, reference_size, shared_tokenizer
from kdcore.errors import UserError
from kdcore.methods import Method, resolve
from kdcore.methods.docs import thin
from kdcore.models.count import parameters
from kdcore.models.sizes import size_of, student_size
from kdcore.models.sources import locate, read_config
from kdcore.models.weights import stored_names
from kdcore.paths import user_path
from kdcore.records import ModelSize, Stage
from kdcore.tasks import METRICS

Level = Literal["ok", "warn", "block"]

WEAK_MARGIN = 0.08
"""A teacher less than this above a blind guess has little to teach."""


@dataclass(frozen=True)
class Line:
    """One check. block: the run would be meaningless or cannot be done. remedy is empty where nothing is wrong."""

    level: Level
    field: str
    words: str
    remedy: str = ""


def check(run: RunConfig) -> list[Line]:
    """All checks of a run, without training or loading weights. Never raises for bad settings: they become lines."""
    return list(dict.fromkeys(_checks(run)))  # one fault can stop several checks


def _checks(run: RunConfig) -> list[Line]:
    lines: list[Line] = []
    data = _try(lines, lambda: load(run.task, run.own))
    if data is None:
        return lines
    _try(lines, lambda: lines.extend(_about_data(run, data)))
    method = _try(lines, lambda: resolve(run.method, run.options))
    if method is None:
        return lines
    before = len(lines)
    _try(lines, lambda: check_method(method[0], run, data))
    suits = len(lines) == before
    _try(lines, lambda: compute_for(run.train))
    _try(lines, lambda: check_length(run, data))
    tokenizer = _try(lines, lambda: shared_tokenizer(run, data))
    if tokenizer is not None:
        shapes = _try(lines, lambda: run_sizes(run, data, len(tokenizer)))
        if shapes is not None:
            student, teachers = shapes
            setup = planned_setup(run, data, student, teachers)
            if suits and (built := _try(lines, lambda: method[0](method[1], setup))) is not None:
                lines.append(Line("ok", "method", f"{method[0].title} fits this student and its teachers"))
                _try(lines, lambda: _check_steps(run, data, built.stages()))
                _try(lines, lambda: _check_other_depths(run, data, built))
            _try(lines, lambda: _check_initial_weights(run, data, student))
    for spec in run.teachers:
        _try(lines, lambda spec=spec: lines.extend(_about_teacher(spec, run, data)))  # type: ignore[misc]
    if not any(line.level == "block" for line in lines):
        _try(lines, lambda: lines.extend(_about_machine(run, data)))
    return lines


def run_sizes(run: RunConfig, data: TaskData, vocabulary: int) -> tuple[ModelSize, dict[str, ModelSize]]:
    """The student's size and each teacher's, without building anything."""
    student = student_size(run.student, reference_size(run, data, vocabulary), data.task.outputs)
    return student, {spec.name: base_size(spec, data) for spec in run.teachers}


def blind_guess(data: TaskData) -> dict[str, float]:
    """The task's metrics of always saying the most frequent label (or the mean score), on the first dev split."""
    dev = data.splits[data.task.splits[0]]
    outputs = np.zeros((len(dev), data.task.outputs))
    if data.task.kind == "classification":
        outputs[:, np.bincount(data.train.labels.astype(np.int64)).argmax()] = 1.0
    return scores(data.task, outputs, dev.labels)


def _try(lines: list[Line], action: Callable[[], Any]) -> Any:
    """The action's result; None, and a blocking line, where it raises."""
    try:
        return action()
    except UserError as error:
        lines.append(Line("block", error.field, error.problem, error.remedy))
        return None


def _about_data(run: RunConfig, data: TaskData) -> Iterator[Line]:
    train, select = train_and_select(data, run.train.select_fraction, run.train.max_train_rows)
    words = f"{data.task.title}: {len(train):,} rows to learn from, {len(select):,} kept aside to decide on"
    yield Line("ok", "task", f"{words} ({data.source})")
    if data.task.synthetic:
        yield Line("warn", "task", "the sentences are generated", "take its numbers for a lesson, not for a result")
    if data.partial:
        yield Line("warn", "task", data.partial, "name it wherever you report a score")
    if data.task.kind == "classification":
        counts = np.bincount(train.labels.astype(np.int64), minlength=data.task.outputs)
        if (counts == 0).any():
            missing = ", ".join(data.task.labels[i] for i in np.flatnonzero(counts == 0))
            yield Line("block", "task", f"no training row has the label {missing}", "use more rows")


def _about_teacher(spec: TeacherSpec, run: RunConfig, data: TaskData) -> Iterator[Line]:
    field = f"teachers.{spec.name}"
    if not needs_training(spec):
        located = locate(spec)
        yield from _label_order(field, located.path, data)
        yield Line("ok", field, f"{located.words} is ready; its score is taken when the run starts")
        return
    folder = teacher_folder(spec, data, run.train)
    try:
        score = float(json.loads((folder / "teacher.json").read_text())["select"])
    except (OSError, ValueError, KeyError, TypeError):
        yield Line("ok", field, f"{spec.name} is trained on {data.task.title} first, once, and then kept")
        return
    guess = blind_guess(data)[data.task.main_metric]
    name = METRICS[data.task.main_metric].split(" (")[0]
    words = f"{name} {100 * score:.1f} on rows kept aside, a blind guess has {100 * guess:.1f}"
    if score < guess + WEAK_MARGIN:
        yield Line("warn", field, f"weak teacher: {words}", "expect little from it, or choose a stronger base")
    elif score < 0.5 and data.task.main_metric in ("matthews", "pearson", "spearman"):
        yield Line("warn", field, f"mediocre teacher: {words}", "a student can hardly pass it")
    else:
        yield Line("ok", field, f"{spec.name}: {words}")


def _label_order(field: str, folder: Any, data: TaskData) -> Iterator[Line]:
    """Labels a finished teacher names in another order than the task would teach the opposite."""
    named = getattr(read_config(folder, field), "id2label", {})
    theirs = [str(named.get(i, "")).lower() for i in range(len(data.task.labels))]
    ours = [label.lower() for label in data.task.labels]
    if theirs != ours and sorted(theirs) == sorted(ours):
        yield Line(
            "block",
            field,
            f"its labels are ordered {theirs}, the task's {ours}",
            "reorder its classifier or pick another",
        )


def _check_steps(run: RunConfig, data: TaskData, stages: list[Stage]) -> None:
    """Raises UserError where a stage would have no step."""
    train, _ = train_and_select(data, run.train.select_fraction, run.train.max_train_rows)
    stage_steps(stages, student_steps(run.train, len(train)))


def _check_initial_weights(run: RunConfig, data: TaskData, student: ModelSize) -> None:
    source = _initial_size(run, data)
    if source is None:
        return
    fields = {"width": "width", "intermediate": "feed-forward size", "vocabulary": "vocabulary"}
    for name, words in fields.items():
        ours, theirs = getattr(student, name), getattr(source, name)
        if ours != theirs:
            raise UserError(
                f"student.{name}" if name != "vocabulary" else "student.init",
                f"weights of {words} {theirs} cannot fill a student of {ours}",
                f"leave the {words} empty, or choose init=random",
            )
    chosen = run.student.init_layers
    if isinstance(chosen, tuple) and not all(1 <= layer <= source.layers for layer in chosen):
        raise UserError("student.init_layers", f"the source has layers 1 to {source.layers}", "name those")
    if chosen in ("first", "last") and student.layers > source.layers:
        raise UserError(
            "student.layers", f"the source has only {source.layers} layers", "ask for fewer, or init=random"
        )


def _check_other_depths(run: RunConfig, data: TaskData, method: Method) -> None:
    """Raises UserError where a model that the method builds beside the student wants more layers than fill it."""
    source = _initial_size(run, data)
    if source is None or run.student.init_layers not in ("first", "last"):  # skip repeats layers, and so does a list
        return

    def build(layers: int | None = None) -> nn.Module:
        if layers and layers > source.layers:
            raise UserError(
                "student.init_layers",
                f"{method.title} builds a model of {layers} layers as well, and only {source.layers} are there to fill "
                f"it from",
                f"choose init_layers=skip (it repeats layers), init=random, or a base of {layers} layers or more",
            )
        return thin(layers or run.student.layers)

    method.build_students(build)


def _initial_size(run: RunConfig, data: TaskData) -> ModelSize | None:
    """The size of the model that fills the student; None where its weights are new."""
    if run.student.init == "random":
        return None
    if run.student.init == "checkpoint":
        folder = user_path(run.student.checkpoint or "", "student.checkpoint")
        stored_names(folder, "student.checkpoint")  # raises where there are no weights
        return size_of(read_config(folder, "student.checkpoint"))
    if run.student.init == "teacher":
        if not run.teachers:
            raise UserError("student.init", "there is no teacher to start from", "add a teacher or choose init=base")
        return base_size(run.teachers[0], data)
    source = run.base or (run.teachers[0] if run.teachers else None)
    if source is None:
        raise UserError("student.init", "there is no base to start from", "name a base, or choose init=random")
    check_has_base(source)
    return base_size(source.model_copy(update={"layers": None}), data)


def _about_machine(run: RunConfig, data: TaskData) -> Iterator[Line]:
    from kdcore.engine.estimate import predict

    cost = predict(run)
    free = shutil.disk_usage(paths.cache_dir()).free
    if cost.disk_bytes > free:
        yield Line(
            "block", "disk", f"needs {cost.disk_bytes / 2**30:.1f} GB, {free / 2**30:.1f} GB are free",
            "free space, or move the cache with KD_CACHE_DIR",
        )  # fmt: skip
    memory = psutil.virtual_memory().available
    where = compute_for(run.train)
    if where.device.type == "cuda":
        import torch

        memory = torch.cuda.mem_get_info()[0]
    if cost.memory_bytes > memory:
        yield Line(
            "block", "train.batch_size",
            f"needs about {cost.memory_bytes / 2**30:.1f} GB of memory, {memory / 2**30:.1f} GB are free",
            "raise accumulate, or lower batch_size or max_length",
        )  # fmt: skip
    name = hardware(where.device.type)
    yield Line("ok", "device", f"{name}, {where.precision}; teacher outputs take up to {_gb(teacher_cache.budget())}")
    for spec in run.teachers:
        shape = base_size(spec, data)
        yield Line("ok", f"teachers.{spec.name}.size", f"{parameters(shape).total / 1e6:.1f} M parameters")


def _gb(size: int) -> str:
    return f"{size / 2**30:.0f} GB"
