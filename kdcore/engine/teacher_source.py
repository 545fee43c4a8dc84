"""What a teacher's settings name, found without training anything: its size, tokenizer, recipe and folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from kdcore import paths
from kdcore.config import DataConfig, FineTune, TeacherSpec, TrainConfig
from kdcore.data.pocket.ladder import LADDER, Rung, rung
from kdcore.data.splits import TaskData
from kdcore.errors import UserError
from kdcore.identity import damage_of
from kdcore.models.sources import load_encoder, locate, size_at
from kdcore.models.tokenizers import load_tokenizer, tokenizer_from_vocabulary
from kdcore.records import ModelSize


def tokenizer_of(spec: TeacherSpec, data: TaskData) -> Any:
    """The tokenizer that belongs to a teacher, found without training anything."""
    if spec.source == "pocket":
        return tokenizer_from_vocabulary(_vocabulary(data, spec))
    return load_tokenizer(locate(spec).path)


def teacher_size(spec: TeacherSpec, data: TaskData) -> ModelSize:
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
        return pocket_size(spec, data)
    size = size_at(locate(spec).path, data.task.outputs)
    if spec.layers is None:
        return size
    if spec.layers > size.layers:
        raise UserError(
            f"teachers.{spec.name}.layers", f"the base has {size.layers} layers, not {spec.layers}", "ask for fewer"
        )
    return replace(size, layers=spec.layers)


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


def teacher_folder(spec: TeacherSpec, data: TaskData, train: TrainConfig, rows: DataConfig | None = None) -> Path:
    """Where a teacher that is trained here is kept: the name follows from all that decides its weights.

    rows: the run's settings of the data; None: clean rows.
    """
    recipe = recipe_of(spec, data)
    content: dict[str, Any] = {
        "data": data.labelled.fingerprint,
        "recipe": asdict(recipe) if isinstance(recipe, Rung) else recipe.model_dump(),
        "layers": spec.layers,
        "rows": [train.max_train_rows, train.select_fraction, train.max_length],
        "source": spec.where if spec.source == "pocket" else folder_hash(locate(spec).path),
    }
    if rows is not None and not rows.of_teachers.clean:
        content["damage"] = damage_of(rows.of_teachers.model_dump(mode="json"))
    name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    key = data.task.key if data.task.suite != "own" else "own"
    return paths.cache_subdir("teachers") / f"{key}-{spec.name}-{name}"


def recipe_of(spec: TeacherSpec, data: TaskData) -> FineTune | Rung:
    """How a teacher that is trained here is trained.

    Raises:
        UserError: the pocket ladder does not have it.
    """
    return rung_of(spec, data) if spec.source == "pocket" else spec.fine_tune or FineTune()


def rung_of(spec: TeacherSpec, data: TaskData) -> Rung:
    """The rung of the pocket ladder that a pocket teacher is. Raises UserError where there is none of this name."""
    if spec.where not in LADDER:
        raise UserError(
            f"teachers.{spec.name}.where",
            f"the pocket ladder has no {spec.where[:40]!r}",
            f"choose {', '.join(LADDER)}",
        )
    return rung(data.task.key, spec.where)


def pocket_size(spec: TeacherSpec, data: TaskData) -> ModelSize:
    """The size of a pocket teacher on this task. Raises UserError for a task or name that the ladder does not have."""
    ours, vocabulary = rung_of(spec, data), len(_vocabulary(data, spec))
    return ModelSize(ours.layers, ours.width, ours.heads, ours.intermediate, vocabulary, 128, data.task.outputs)


def _vocabulary(data: TaskData, spec: TeacherSpec) -> tuple[str, ...]:
    if data.vocabulary is None:
        raise UserError(
            f"teachers.{spec.name}.source",
            f"pocket teachers know the pocket tasks only, not {data.task.title}",
            "choose an installed package, a folder, a hub id or a run",
        )
    return data.vocabulary


def origin(spec: TeacherSpec) -> str:
    """Where a teacher's weights come from, in words."""
    cut = f", first {spec.layers} layers" if spec.layers else ""
    return f"{spec.source} {spec.where}{cut}"


def folder_hash(folder: Path) -> str:
    """SHA-256 of the folder's weights and config files."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
