"""The runs that pages about many show where the address names none."""

from __future__ import annotations

import pandas as pd

from kdcore.analysis.ablation import ALONE

MOST_RUNS = 12


def suggestion(everything: pd.DataFrame) -> list[str]:
    """Finished runs of one protocol: of the newest task's protocols the one with most of them.

    Whole groups, as many as fit: training alone, then those with the most seeds, of these the best.

    Args:
        everything: rows of `Store.runs`.
    """
    done = everything[everything["state"] == "done"]
    if done.empty:
        return []
    done = done[done["task"] == done["task"].iloc[0]]
    done = done[done["protocol"] == done["protocol"].value_counts(sort=True).index[0]]
    groups = done.groupby("group", sort=False).agg(
        method=("method", "first"), seeds=("seed", "nunique"), score=("score", "mean"), runs=("id", "size")
    )
    groups = groups.assign(alone=groups["method"] == ALONE)
    groups = groups.sort_values(["alone", "seeds", "score"], ascending=False, kind="stable")
    fitting = groups.index[groups["runs"].cumsum() <= MOST_RUNS]
    return list(done[done["group"].isin(fitting if len(fitting) else groups.index[:1])]["id"][:MOST_RUNS])
