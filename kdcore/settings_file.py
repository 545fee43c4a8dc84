"""Settings out of a YAML or JSON file, checked against a model; errors name the field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

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
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError("file", f"{path} is larger than 1 MB", "give a file of settings, not of data")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
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
