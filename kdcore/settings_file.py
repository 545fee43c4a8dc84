"""Settings out of a YAML or JSON file, checked against a model; errors name the field."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kdcore.config import OWN_FILES, RunConfig, TeacherSpec
from kdcore.errors import UserError

_LARGEST_FILE = 1_000_000


_REMEDIES = {
    "not divisible by heads": "choose a width that is a multiple of heads",
    "does not divide batch_size": "choose a batch_size that is a multiple of accumulate",
    "need different names": "give each teacher a name of its own",
    "needs the field checkpoint": "set student.checkpoint to that folder, or choose another init",
    "init_layers lists": "list as many layers as the student has, or choose first, last or skip",
    "go together": "give the field own (path, text, label) with task own, and leave it out with other tasks",
}
"""Words of a check over several fields -> what to do."""

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
        problem = first["msg"].removeprefix("Value error, ")
        raise UserError(path.lstrip(".") or "settings", problem, _remedy(model, first)) from None


def _remedy(model: type[BaseModel], problem: ErrorDetails) -> str:
    """What to do: the names there are where one is wrong or absent, else what the value has to be."""
    kind, words = problem["type"], problem["msg"].removeprefix("Value error, ")
    for sign, remedy in _REMEDIES.items():
        if sign in words:
            return remedy
    if kind in ("extra_forbidden", "missing", "model_type") and len(problem["loc"]) < 2:
        return f"fields are {', '.join(model.model_fields)}"
    if kind == "string_too_long":
        return f"write at most {problem.get('ctx', {}).get('max_length')} characters"
    return "give a value that fits"


def read_settings(path: Path) -> Any:
    """The content of a YAML or JSON file.

    Raises:
        UserError: absent, too large, not text, or not YAML.
    """
    import yaml

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError("file", f"{path} is not a regular file", "give a YAML or JSON file in UTF-8")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise UserError("file", f"{path} is larger than 1 MB", "give a file of settings, not of data")
        return yaml.load(content.decode("utf-8"), Loader=_loader())
    except (OSError, UnicodeDecodeError, UnicodeEncodeError) as error:
        raise UserError("file", f"{path} cannot be read ({error})", "give a YAML or JSON file in UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError, ArithmeticError) as error:  # dates and numbers, too
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


def merge(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, later ones over earlier ones."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = result.get(key)
            result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def with_absolute_paths(run: RunConfig) -> RunConfig:
    """The same run with every path that is relative set against this process's folder, so that it works from any other.

    A path that starts with "~" stays: it means the same everywhere.
    """
    changes: dict[str, Any] = {"options": {name: _absolute_option(value) for name, value in run.options.items()}}
    if run.own is not None:
        named = {name: getattr(run.own, name) for name in OWN_FILES}
        paths = {name: _absolute(path) for name, path in named.items() if path}
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
