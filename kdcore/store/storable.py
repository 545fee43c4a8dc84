"""Values as every database takes them: text that can be encoded and holds no NUL, integers of a column's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LARGEST = 2**31 - 1
"""Of PostgreSQL's integer columns, which SQLite's exceed."""


def storable_text(value: Any) -> str:
    """Text without NUL (PostgreSQL takes none) and without halves of characters (no encoding takes them)."""
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values: text as `storable_text`, an integer that is too large for its column absent."""
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    return None if isinstance(value, int) and abs(value) > LARGEST else value
