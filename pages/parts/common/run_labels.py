"""What list boxes call a run. A label must stand still while a page is looked at: Streamlit knows an option by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from kdcore.store import ACTIVE
from pages.parts.common.text import one_line, task_title

Row = pd.Series | Mapping[Hashable, Any]
"""One of `Store.runs`."""


def run_label(row: Row) -> str:
    """One run in a list box: name, task, seed, state, and when it was made (UTC)."""
    seed: str = "" if pd.isna(row["seed"]) else f" · seed {int(row['seed'])}"
    made: str = "" if pd.isna(row["created"]) else f" · {row['created']:%d %b %H:%M}"
    return f"{one_line(row['name'], 50)} · {task_title(row['task'])}{seed} · {_state(row)}{made}"


def chip_label(row: Row, task: bool) -> str:
    """One run as a chip: its name, and what the name may leave out."""
    parts = [one_line(row["name"], 36)]
    seed: str = "" if pd.isna(row["seed"]) else f"seed {int(row['seed'])}"
    parts += [seed] if seed and seed not in parts[0] else []
    parts += [task_title(row["task"])] if task else []
    parts += [] if row["state"] == "done" else [_state(row)]
    return " · ".join(parts)


def _state(row: Row) -> str:
    """A run that a worker holds is running, whatever it does just now."""
    return "running" if row["state"] in ACTIVE else str(row["state"])


def unique_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Run -> label, with the end of the id where two runs have the same."""
    times = Counter(labels.values())
    return {run: label if times[label] == 1 else f"{label} · {run[-6:]}" for run, label in labels.items()}


def rows_of(runs: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """What labels read of each run. A Series per row would take most of the time of a page over a full store."""
    return runs[["id", "name", "task", "seed", "state", "created"]].to_dict("records")
