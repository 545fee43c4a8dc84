"""Teachers made ready: found, or trained here once and kept under `cache/teachers`.

A pretrained base is fine-tuned, and a pocket teacher trained from scratch, by the same loop that trains students.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import nn

from kdcore.config import DataConfig, TeacherSpec, TrainConfig
from kdcore.data.pocket.ladder import Rung
from kdcore.data.splits import TaskData
from kdcore.engine.control import Control, NoControl
from kdcore.engine.device import Compute
from kdcore.engine.ensemble import Ensemble, Teacher
from kdcore.engine.job import Job, encode_rows
from kdcore.engine.loop import run_stages
from kdcore.engine.model_checks import teacher_notes
from kdcore.engine.sharing import fetch_teacher, share_teacher
from kdcore.engine.teacher_source import (
    folder_hash,
    needs_training,
    origin,
    pocket_size,
    recipe_of,
    rung_of,
    teacher_folder,
    teacher_size,
    tokenizer_of,
)
from kdcore.errors import CorruptError, UserError
from kdcore.events import Event, Progress, StepDone
from kdcore.methods.fine_tune import FineTuneAlone
from kdcore.models.sizes import bert_config, size_of
from kdcore.models.sources import load_encoder, locate, size_at
from kdcore.models.weights import build_classifier
from kdcore.records import Setup


def prepare_teacher(
    spec: TeacherSpec, data: TaskData, train: TrainConfig, compute: Compute, control: Control | None = None,
    rows: DataConfig | None = None,
) -> Generator[Event, None, Teacher | None]:  # fmt: skip
    """Finds the teacher, or trains and keeps it. Returns None if a stop was asked for meanwhile.

    Args:
        rows: the run's settings of the data, which say what a teacher that is trained here learns from; None: clean.

    Raises:
        UserError: not there, another label count, a vocabulary that does not fit.
    """
    if not needs_training(spec):
        located, size = locate(spec), teacher_size(spec, data)
        for _ in teacher_notes(spec, data):  # raises where its classes are not the task's
            pass
        load_encoder(located, data.task.outputs)  # raises where its weights cannot be read
        return Teacher(spec.name, located.path, size, folder_hash(located.path), located.words)
    folder = teacher_folder(spec, data, train, rows)
    control = control or NoControl()
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    while not (folder / "teacher.json").exists():
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            yield Progress(f"another process trains teacher {spec.name}", 0, 1)
            if control.stop_requested():
                return None
            continue
        try:
            if not (folder / "teacher.json").exists():  # the one who held the lock may have made it meanwhile
                fetch_teacher(folder)
            if (folder / "teacher.json").exists():
                break
            job = partial(_job, spec, data, train, rows or DataConfig(), compute)
            complete = yield from _train(spec, data, job, folder, control)
            if complete:
                share_teacher(folder)
        finally:
            lock.release()
        if not complete:
            return None
    return _stored_teacher(spec.name, folder)


def _stored_teacher(name: str, folder: Path) -> Teacher:
    """A teacher that was trained here, as it was kept.

    Raises:
        CorruptError: it cannot be read, or its weights are not those that were kept.
    """
    try:
        facts = json.loads((folder / "teacher.json").read_text())
        teacher = Teacher(name, folder, size_at(folder), str(facts["identity"]), str(facts["words"]))
        changed = folder_hash(folder) != teacher.identity
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UserError) as error:
        raise _unreadable(name, folder, "cannot be read") from error
    if changed:
        raise _unreadable(name, folder, "has other weights than were kept")
    return teacher


def _unreadable(name: str, folder: Path, problem: str) -> CorruptError:
    remedy = f"delete {folder}, and it is trained again"
    return CorruptError(f"teachers.{name}", f"the kept teacher {folder.name} {problem}", remedy)


def _train(
    spec: TeacherSpec, data: TaskData, job_in: Callable[[Path], Job], folder: Path, control: Control
) -> Generator[Event, None, bool]:
    """Trains a teacher into `folder`. An interrupted training goes on where it was. False: a stop was asked for.

    job_in: makes its training ready in a folder.
    """
    work = folder.with_name(folder.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    job = job_in(work)
    loop = run_stages(job, control)
    while True:
        try:
            event = next(loop)
        except StopIteration as end:
            if end.value:
                return False
            break
        if isinstance(event, StepDone):
            yield Progress(f"training teacher {spec.name}", event.step, event.steps)
    (work / "student-best" / "teacher.json").write_text(json.dumps(_facts(spec, data, job), indent=1))
    fetch_teacher(folder)  # another computer may have been first
    if not (folder / "teacher.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(work / "student-best", folder)
    shutil.rmtree(work, ignore_errors=True)
    return True


def _job(
    spec: TeacherSpec, data: TaskData, train: TrainConfig, damage: DataConfig, compute: Compute, folder: Path
) -> Job:
    """Fine-tuning on the task, by the teacher's own recipe; rows and precision are those of the run."""
    recipe = recipe_of(spec, data)
    settings = TrainConfig(
        epochs=recipe.epochs, lr=recipe.lr, batch_size=recipe.batch_size, seed=recipe.seed,
        max_length=train.max_length, max_train_rows=train.max_train_rows, select_fraction=train.select_fraction,
        precision=train.precision, device=train.device, log_every=5,
    )  # fmt: skip
    tokenizer = tokenizer_of(spec, data)
    rows = encode_rows(data.labelled, tokenizer, settings, damage.of_teachers)

    def fresh() -> dict[str, nn.Module]:
        return {"student": _new_model(spec, data, recipe.seed)}

    students = fresh()
    setup = Setup(
        kind=data.task.kind, labels=data.task.outputs, student=size_of(students["student"].config), teachers={},
        scores={}, train_rows=len(rows.train), seed=recipe.seed,
    )  # fmt: skip
    return Job(
        train=settings, task=data.task, folder=folder, rows=rows.train, epoch_rows=rows.epoch, splits=rows.splits,
        tokenizer=tokenizer,
        method=FineTuneAlone(FineTuneAlone.Config(), setup), students=students, fresh=fresh,
        ensemble=Ensemble([], rows.train, rows.identity, compute, cached=False), compute=compute,
    )  # fmt: skip


def _facts(spec: TeacherSpec, data: TaskData, job: Job) -> dict[str, Any]:
    """What is kept beside the teacher's weights; with it the teacher counts as made."""
    recipe = recipe_of(spec, data)
    return {
        "identity": folder_hash(job.folder / "student-best"),
        "words": f"{origin(spec)}, trained here on {data.task.title}",
        "recipe": asdict(recipe) if isinstance(recipe, Rung) else recipe.model_dump(),
        "rows": len(job.rows),
        "select": job.state.best,
        "seconds": job.state.seconds,
        "task": data.task.key,
    }


def _new_model(spec: TeacherSpec, data: TaskData, seed: int) -> nn.Module:
    if spec.source == "pocket":
        config = bert_config(pocket_size(spec, data), data.task.outputs, rung_of(spec, data).dropout)
        return build_classifier(config, {}, seed)[0]
    located = locate(spec)
    return load_encoder(located, data.task.outputs, spec.layers, seed, new_head=not located.pretrained_only)
