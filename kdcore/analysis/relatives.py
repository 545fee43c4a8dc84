"""Finished runs that equal a given one but for some settings: the other sizes of a student, or other damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdcore.identity import essential
from kdcore.store import Store


def relatives(store: Store, runs: pd.DataFrame, of: Sequence[str], free: Sequence[str]) -> dict[str, str]:
    """Run -> the first of the runs `of` that it equals but for the seed and the settings `free`; finished runs only.

    Args:
        runs: rows of `Store.runs` to look among. free: names of flat settings or of their beginnings, such as
            "student.layers" or "data.".
    """
    done = runs[(runs["state"] == "done") & runs["score"].notna()]
    mine = runs[runs["id"].isin(of)]
    alike = done[done["method"].isin(mine["method"])]
    if "task" not in free:
        alike = alike[alike["task"].isin(mine["task"])]
    settings = store.settings(list(dict.fromkeys([*of, *alike["id"]])))
    keys = {run: _rest(config.model_dump(mode="json"), free) for run, config in settings.items()}
    first: dict[str, str] = {}
    for run in of:
        if run in keys:
            first.setdefault(keys[run], run)
    return {run: first[keys[run]] for run in alike["id"] if run in keys and keys[run] in first}


def _rest(settings: Mapping[str, Any], free: Sequence[str]) -> str:
    """All essential settings but the free ones, as one text."""
    return repr(
        sorted((name, repr(value)) for name, value in essential(settings).items() if not name.startswith(tuple(free)))
    )
