"""What reading a table or looking at its rows brought to light, for a person to judge before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Note:
    """ok: plain information. warn: likely a mistake in the data. remedy is empty where nothing need be done."""

    level: Literal["ok", "warn"]
    field: str
    text: str
    remedy: str = ""


def row_list(rows: Sequence[int], limit: int = 3) -> str:
    """Row numbers, which count from 1.

    >>> row_list([5]), row_list([5, 7, 9, 12])
    ('row 5', 'rows 5, 7, 9 and 1 more')
    """
    first = ", ".join(str(row) for row in rows[:limit])
    more = f" and {len(rows) - limit:,} more" if len(rows) > limit else ""
    return f"row{'s' if len(rows) > 1 else ''} {first}{more}"


def short(cell: Any) -> str:
    """A cell as Python would write it, of at most 60 characters."""
    text = repr(cell[:200] if isinstance(cell, str) else cell)
    return text if len(text) <= 60 else text[:57] + "..."
