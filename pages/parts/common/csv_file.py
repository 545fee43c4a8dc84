"""Tables as CSV files to take along, safe to open in a spreadsheet."""

from __future__ import annotations

from typing import Any

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that spreadsheets take for a formula; the last four are full-width forms of the first."""


def csv_bytes(table: pd.DataFrame) -> bytes:
    """The table in UTF-8, without its index. Text that a spreadsheet would run as a formula begins with "'"."""
    safe = table.rename(columns=_safe)
    for place in range(table.shape[1]):
        if not pd.api.types.is_numeric_dtype(table.iloc[:, place]):
            safe.isetitem(place, [_safe(cell) for cell in table.iloc[:, place]])
    return safe.to_csv(index=False).encode("utf-8", "replace")


def _safe(cell: Any) -> Any:
    """Numbers stay as they are, also where they are written as text."""
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")  # a lone "\r" would stand unquoted and end the row
    if not cell.lstrip().startswith(_FORMULA) and not cell.startswith("\t"):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
