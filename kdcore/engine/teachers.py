"""Teachers made ready: found, or trained here once and kept under `cache/teachers`.

A pretrained base is fine-tuned, and a pocket teacher trained from scratch, by the same loop that trains students.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import nn

from kdcore import paths
from kdcore.config import FineTune, TeacherSpec, TrainConfig
from kdcore.data.encode import Encoded, encode
from kdcore.data.pocket.ladder import LADDER, Rung, rung
from kdcore.data.splits import TaskData, train_and_select
from kdcore.engine.control import Control, NoControl
from kdcore.engine.device import Compute
from kdcore.engine.ensemble import Ensemble, Teacher
from kdcore.engine.loop import Job, run_stages
from kdcore.errors import CorruptError, UserError
from kdcore.events import Event, Progress, StepDone
from kdcore.methods.fine_tune import FineTuneAlone
from kdcore.models.sizes import bert_config, size_of
from kdcore.models.sources import load_encoder, locate, size_at
from kdcore.models.tokenizers import load_tokenizer, tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.records import ModelSize, Setup


@dataclass(frozen=True)
class Rows:
    """A task's rows as one tokenizer sees them: training rows, `select`, and the dev splits."""

    train: Encoded
    splits: Mapping[str, Encoded]
    identity: Mapping[str, Any]


def encode_rows(data: TaskData, tokenizer: Any, train: TrainConfig) -> Rows:
    """Tokenises the training rows, `select` and the dev splits."""
    training, select = train_and_select(data, train.select_fraction, train.max_train_rows)
    splits = {"select": select, **{name: data.splits[name] for name in data.task.splits}}
    return Rows(
        encode(training, tokenizer, train.max_length),
        {name: encode(split, tokenizer, train.max_length) for name, split in splits.items()},
        {"data": data.fingerprint, "max_length": train.max_length},
    )


def tokenizer_of(spec: TeacherSpec, data: TaskData) -> Any:
    """The tokenizer that belongs to a teacher, found without training anything."""
    if spec.source == "pocket":
        return tokenizer_from_vocabulary(_vocabulary(data, spec))
    return load_tokenizer(locate(spec).path)


def base_size(spec: TeacherSpec, data: TaskData) -> ModelSize:
    """The size of a teacher, from its config or the ladder.

    Raises:
        UserError: layers are named of a teacher that is not fine-tuned here, or more than its base has.
    """
    if spec.layers is not None and (spec.source == "pocket" or not needs_training(spec)):
        raise UserError(
            f"teachers.{spec.name}.layers",
            "only a base that is fine-tuned here can be cut to its first layers",
            "leave layers empty, or fine-tune it",
        )
    if spec.source == "pocket":
        return _pocket_size(spec, data)
    shape = size_at(locate(spec).path, data.task.outputs)
    if spec.layers is None:
        return shape
    if spec.layers > shape.layers:
        raise UserError(
            f"teachers.{spec.name}.layers", f"the base has {shape.layers} layers, not {spec.layers}", "ask for fewer"
        )
    return replace(shape, layers=spec.layers)


def load_base(spec: TeacherSpec, data: TaskData) -> nn.Module:
    """The pretrained base behind a teacher, before any fine-tuning on the task.

    Raises:
        UserError: there is none: pocket teachers and finished teachers have no base.
    """
    check_has_base(spec)
    located = locate(spec)
    return load_encoder(located, data.task.outputs, None, 0, new_head=not located.pretrained_only)


def check_has_base(spec: TeacherSpec) -> None:
    """Raises UserError where a teacher was not, or will not be, fine-tuned here from a pretrained base."""
    if spec.source == "pocket" or not needs_training(spec):
        raise UserError(
            "student.init",
            f"teacher {spec.name} has no pretrained base to start from",
            "choose init=teacher or init=random, or name a pretrained model in the field base",
        )


def needs_training(spec: TeacherSpec) -> bool:
    """Whether this teacher is trained here (once) rather than found."""
    return spec.source == "pocket" or spec.fine_tune is not None or locate(spec).pretrained_only


def teacher_folder(spec: TeacherSpec, data: TaskData, train: TrainConfig) -> Path:
    """Where a teacher that is trained here is kept: the name follows from all that decides its weights."""
    recipe = _recipe(spec, data)
    what: dict[str, Any] = {
        "data": data.fingerprint,
        "recipe": asdict(recipe) if isinstance(recipe, Rung) else recipe.model_dump(),
        "layers": spec.layers,
        "rows": [train.max_train_rows, train.select_fraction, train.max_length],
        "source": spec.where if spec.source == "pocket" else _folder_hash(locate(spec).path),
    }
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    key = data.task.key if data.task.suite != "own" else "own"
    return paths.cache_subdir("teachers") / f"{key}-{spec.name}-{name}"


def prepare_teacher(
    spec: TeacherSpec, data: TaskData, train: TrainConfig, where: Compute, control: Control | None = None
) -> Generator[Event, None, Teacher | None]:
    """Finds the teacher, or trains and keeps it. Returns None if a stop was asked for meanwhile.

    Raises:
        UserError: not there, another label count, a vocabulary that does not fit.
    """
    if not needs_training(spec):
        located, shape = locate(spec), base_size(spec, data)
        load_encoder(located, data.task.outputs)  # checks label count and weights, in words a person can act on
        return Teacher(spec.name, located.path, shape, _folder_hash(located.path), located.words)
    folder = teacher_folder(spec, data, train)
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    control = control or NoControl()
    while not (folder / "teacher.json").exists():
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            yield Progress(f"another process trains teacher {spec.name}", 0, 1)
            if control.stop_requested():
                return None
            continue
        try:
            if (folder / "teacher.json").exists():  # the one who held the lock has made it meanwhile
                break
            done = yield from _train(spec, data, train, where, folder, control)
        finally:
            lock.release()
        if not done:
            return None
    try:
        facts = json.loads((folder / "teacher.json").read_text())
        shape = size_at(folder)
    except (OSError, ValueError, UserError) as error:
        raise CorruptError(
            f"teachers.{spec.name}",
            f"the kept teacher {folder.name} does not read",
            f"delete cache/teachers/{folder.name}",
        ) from error
    return Teacher(spec.name, folder, shape, facts["identity"], facts["words"])


def _train(
    spec: TeacherSpec, data: TaskData, train: TrainConfig, where: Compute, folder: Path, control: Control
) -> Generator[Event, None, bool]:
    """Trains a teacher into `folder`. An interrupted training goes on where it was."""
    work = folder.with_name(folder.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    recipe = _recipe(spec, data)
    settings = TrainConfig(
        epochs=recipe.epochs, lr=recipe.lr, batch_size=recipe.batch_size, seed=recipe.seed,
        max_length=train.max_length, max_train_rows=train.max_train_rows, select_fraction=train.select_fraction,
        precision=train.precision, device=train.device, log_every=5,
    )  # fmt: skip
    tokenizer = tokenizer_of(spec, data)
    rows = encode_rows(data, tokenizer, settings)
    model = _untrained(spec, data, recipe.seed)
    shape = size_of(model.config)
    setup = Setup(data.task.kind, data.task.outputs, shape, {}, {}, len(rows.train), recipe.seed)
    job = Job(
        settings, data.task, work, rows.train, rows.splits, tokenizer, FineTuneAlone(FineTuneAlone.Config(), setup),
        {"student": model}, lambda: {"student": _untrained(spec, data, recipe.seed)},
        Ensemble([], rows.train, rows.identity, where, cached=False), where, {},
    )  # fmt: skip
    loop = run_stages(job, control)
    while True:
        try:
            event = next(loop)
        except StopIteration as ended:
            if ended.value:
                return False
            break
        if isinstance(event, StepDone):
            yield Progress(f"training teacher {spec.name}", event.step, event.steps)
    facts = {
        "identity": _folder_hash(work / "student-best"),
        "words": f"{_words(spec)}, trained here on {data.task.title}",
        "recipe": asdict(recipe) if isinstance(recipe, Rung) else recipe.model_dump(),
        "rows": len(rows.train),
        "select": job.place.best,
        "seconds": job.place.seconds,
        "task": data.task.key,
    }
    (work / "student-best" / "teacher.json").write_text(json.dumps(facts, indent=1))
    shutil.rmtree(folder, ignore_errors=True)  # one that lacks its teacher.json
    os.rename(work / "student-best", folder)
    shutil.rmtree(work, ignore_errors=True)
    return True


def _untrained(spec: TeacherSpec, data: TaskData, seed: int) -> nn.Module:
    if spec.source == "pocket":
        config = bert_config(_pocket_size(spec, data), data.task.outputs, _rung(spec, data).dropout)
        return build_classifier(config, {}, seed)[0]
    located = locate(spec)
    return load_encoder(located, data.task.outputs, spec.layers, seed, new_head=not located.pretrained_only)


def _recipe(spec: TeacherSpec, data: TaskData) -> FineTune | Rung:
    return _rung(spec, data) if spec.source == "pocket" else spec.fine_tune or FineTune()


def _rung(spec: TeacherSpec, data: TaskData) -> Rung:
    if spec.where not in LADDER:
        raise UserError(
            f"teachers.{spec.name}.where",
            f"the pocket ladder has no {spec.where[:40]!r}",
            f"choose {', '.join(LADDER)}",
        )
    return rung(data.task.key, spec.where)


def _pocket_size(spec: TeacherSpec, data: TaskData) -> ModelSize:
    size, vocabulary = _rung(spec, data), len(_vocabulary(data, spec))
    return ModelSize(size.layers, size.width, size.heads, size.intermediate, vocabulary, 128, data.task.outputs)


def _vocabulary(data: TaskData, spec: TeacherSpec) -> tuple[str, ...]:
    if data.vocabulary is None:
        raise UserError(
            f"teachers.{spec.name}.source",
            f"pocket teachers know the pocket tasks only, not {data.task.title}",
            "choose an installed package, a folder, a hub id or a run",
        )
    return data.vocabulary


def _words(spec: TeacherSpec) -> str:
    kept = f", first {spec.layers} layers" if spec.layers else ""
    return f"{spec.source} {spec.where}{kept}"


def _folder_hash(folder: Path) -> str:
    """SHA-256 of the folder's weights and config files."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
