"""Tables as JSON files to take along: rows of numbers, with units and what they are of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

FRACTION = "fraction of 1"
UNITS: dict[str, str] = {
    "step": "training steps",
    "epoch": "passes over the training rows",
    "examples": "training rows",
    "tokens": "tokens",
    "seconds": "s",
    "latency_ms": "ms",
    "median_ms": "ms",
    **dict.fromkeys(
        (
            "score", "select_score", "last_score", "mean", "gain", "change", "low", "high", "total", "total_low",
            "total_high",
        ),
        FRACTION,
    ),
}  # fmt: skip
"""Column -> its unit, where every table of ours that has the column means the same."""


def json_bytes(table: pd.DataFrame, about: Mapping[str, Any]) -> bytes:
    """`about`, then units (column -> unit), seeds (of the column seed or seeds, if there is one) and rows.

    A missing number is null; a column of a name that comes twice gets a number.

    Args:
        about: what the numbers are of, such as figure, runs, metric, split. Its `units` go over ours.
    """
    columns = _unique([str(column) for column in table.columns])
    units = {name: UNITS[name] for name in columns if name in UNITS} | dict(about.get("units", {}))
    rows = [dict(zip(columns, map(_value, row), strict=True)) for row in table.itertuples(index=False, name=None)]
    whole = {
        **{key: _value(value) for key, value in about.items()},
        "units": units,
        "seeds": _seeds(table),
        "rows": rows,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def with_units(table: pd.DataFrame, units: Mapping[str, str]) -> pd.DataFrame:
    """The same table for a CSV file, whose only place for a unit is the column's name: `score (points of 100)`."""
    return table.rename(columns={name: f"{name} ({unit})" for name, unit in units.items()})


def _seeds(table: pd.DataFrame) -> list[int]:
    if "seed" in table:
        return sorted({int(seed) for seed in table["seed"].dropna()})
    texts = table.get("seeds", ())
    return sorted({int(seed) for text in texts for seed in str(text).split(",") if seed.strip().isdecimal()})


def _unique(names: list[str]) -> list[str]:
    return [name if names.index(name) == at else f"{name} {at + 1}" for at, name in enumerate(names)]


def _value(cell: Any) -> Any:
    if isinstance(cell, Mapping):
        return {str(key): _value(value) for key, value in cell.items()}
    if isinstance(cell, list | tuple | set | np.ndarray):
        return [_value(item) for item in cell]
    if isinstance(cell, np.generic):
        cell = cell.item()
    if cell is None or cell is pd.NaT or cell is pd.NA:
        return None
    if isinstance(cell, bool | int | str):
        return cell
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)
