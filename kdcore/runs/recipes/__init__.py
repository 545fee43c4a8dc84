"""A paper's own recipe as settings: what its authors trained with, as far as it could be read. One file each.

    title: Patient KD, 6 layers
    source: Sun et al. 2019, the authors' preset for RTE; alpha and beta converted to means over rows
    method: pkd
    options: {alpha: 0.54, temperature: 10, beta: 769}
    student: {layers: 6, init: base, init_layers: first}
    train: {epochs: 4, batch_size: 32, lr: 1.0e-5}
    teacher: BERT-base, 12 layers of 768, fine-tuned on the task
    tasks: {mnli: {options: {alpha: 0.44}}}       # what differs on a task
    departs: [what this program does otherwise]
    unverified: [what could not be read in the paper or its code]

A recipe says nothing of the task and of where teachers come from: a run needs both besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from kdcore.config import Settings, StudentSpec, TrainConfig
from kdcore.errors import UserError
from kdcore.settings_file import merge, read_settings, validate
from kdcore.tasks import TASKS

FOLDER = Path(__file__).resolve().parent


class Part(Settings):
    """Some of a run's settings: fields of the method's Config, of StudentSpec and of TrainConfig."""

    options: dict[str, Any] = Field(default_factory=dict)
    student: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)

    @field_validator("student")
    @classmethod
    def _a_student(cls, value: dict[str, Any]) -> dict[str, Any]:
        StudentSpec.model_validate(value)
        return value

    @field_validator("train")
    @classmethod
    def _a_training(cls, value: dict[str, Any]) -> dict[str, Any]:
        TrainConfig.model_validate(value)
        return value


class Preset(Part):
    """A recipe. source: paper and section, table or file. teacher: in words, whom the authors distilled."""

    title: str
    source: str
    method: str
    teacher: str
    tasks: dict[str, Part] = Field(default_factory=dict, description="what differs, by task")
    departs: tuple[str, ...] = Field((), description="what this program does otherwise")
    unverified: tuple[str, ...] = Field((), description="what the sources at hand could not settle; the choice is ours")

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, value: dict[str, Part]) -> dict[str, Part]:
        if unknown := value.keys() - TASKS.keys():
            raise ValueError(f"there is no task {sorted(unknown)[0]}")
        return value

    def settings(self, task: str) -> dict[str, Any]:
        """The recipe on this task, as a part of a RunConfig: method, options, student, train."""
        parts = (part.model_dump(include=set(Part.model_fields)) for part in (self, self.tasks.get(task, Part())))
        return merge({"method": self.method}, *parts)


@cache
def presets() -> dict[str, Preset]:
    """Key (the file's name) -> recipe, in the order of the methods and then of the keys.

    Raises:
        UserError: a file that cannot be read, or settings that its method does not take; the field is named.
    """
    from kdcore.methods import METHODS, resolve

    recipes = {path.stem: validate(Preset, read_settings(path), path.name) for path in FOLDER.glob("*.yaml")}
    for key, preset in recipes.items():
        try:
            for task in ("", *preset.tasks):
                resolve(preset.method, preset.settings(task)["options"])
        except UserError as error:
            raise UserError(f"{key}.yaml: {error.field}", error.problem, error.remedy) from None
    order = list(METHODS)
    return dict(sorted(recipes.items(), key=lambda item: (order.index(item[1].method), item[0])))


def find_preset(key: str) -> Preset:
    """The recipe of this key.

    Raises:
        UserError: no such recipe; the message lists the keys.
    """
    try:
        return presets()[key]
    except KeyError:
        raise UserError("preset", f"no recipe {key[:60]!r}", f"choose one of {', '.join(presets())}") from None


def presets_of(method: str) -> dict[str, Preset]:
    """The recipes for a method."""
    return {key: preset for key, preset in presets().items() if preset.method == method}


def settings_text(settings: Mapping[str, Any]) -> str:
    """What `Preset.settings` sets, in one line: `alpha 0.54, temperature 10; student: layers 6; training: lr 1e-5`."""
    parts = {"": settings["options"], "student: ": settings["student"], "training: ": settings["train"]}
    return "; ".join(
        name + ", ".join(_setting_text(*item) for item in part.items()) for name, part in parts.items() if part
    )


def _setting_text(name: str, value: Any) -> str:
    label = name.replace("_", " ")
    if isinstance(value, bool):
        return f"{label} {'on' if value else 'off'}"
    if isinstance(value, list | tuple):
        return f"{label} {'-'.join(map(str, value))}"
    return f"{label} {value:.4g}".replace("e-0", "e-") if isinstance(value, float) else f"{label} {value}"
