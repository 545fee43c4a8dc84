"""Settings out of a YAML or JSON file, checked against a model; errors name the field."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kdcore.config import RunConfig, TeacherSpec
from kdcore.errors import UserError

_LARGEST_FILE = 1_000_000


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], data: Any, prefix: str = "") -> Model:
    """`data` as this model.

    Raises:
        UserError: the first problem, with the field's path (`methods[1].options`).
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        remedy = f"fields are {', '.join(model.model_fields)}" if len(first["loc"]) < 2 else "give a value that fits"
        problem = first["msg"].removeprefix("Value error, ")
        raise UserError(path.lstrip(".") or "settings", problem, remedy) from None


def read_settings(path: Path) -> Any:
    """The content of a YAML or JSON file.

    Raises:
        UserError: absent, too large, not text, or not YAML.
    """
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)  # a device never ends, whatever size it says
        if len(content) > _LARGEST_FILE:
            raise UserError("file", f"{path} is larger than 1 MB", "give a file of settings, not of data")
        return yaml.load(content.decode("utf-8"), Loader=_loader())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("file", f"{path} cannot be read ({error})", "give a YAML or JSON file in UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise UserError("file", f"{path} is not YAML ({problem[:200]})", "fix the line named there") from None


def _loader() -> Any:
    """YAML without aliases: a few lines of them can grow into gigabytes."""
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not taken here")
            return super().compose_node(parent, index)

    return Plain


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, later ones over earlier ones."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def with_absolute_paths(run: RunConfig) -> RunConfig:
    """The same run with every path that is relative set against this process's folder, so that it works from any other.

    A path that starts with "~" stays: it means the same everywhere.
    """
    changes: dict[str, Any] = {"options": {name: _absolute_option(value) for name, value in run.options.items()}}
    if run.own is not None:
        dev = run.own.validation_path
        paths = {"path": _absolute(run.own.path), "validation_path": _absolute(dev) if dev else dev}
        changes["own"] = run.own.model_copy(update=paths)
    if run.student.checkpoint:
        changes["student"] = run.student.model_copy(update={"checkpoint": _absolute(run.student.checkpoint)})
    changes["teachers"] = tuple(_absolute_source(teacher) for teacher in run.teachers)
    if run.base is not None:
        changes["base"] = _absolute_source(run.base)
    return run.model_copy(update=changes)


def _absolute(path: str) -> str:
    return path if path.startswith("~") or os.path.isabs(path) else os.path.abspath(path)


def _absolute_source(spec: TeacherSpec) -> TeacherSpec:
    return spec.model_copy(update={"where": _absolute(spec.where)}) if spec.source == "folder" else spec


def _absolute_option(value: Any) -> Any:
    """An option that names a model as `folder:path`."""
    folder = "folder:"
    if isinstance(value, str) and value.startswith(folder) and value != folder:
        return folder + _absolute(value.removeprefix(folder))
    return value
