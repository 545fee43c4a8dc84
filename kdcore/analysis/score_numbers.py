"""The table of a comparison as numbers, with their units: for files, where the page has words."""

from __future__ import annotations

import pandas as pd

from kdcore.analysis.comparison import Comparison
from kdcore.analysis.latency import group_latencies
from kdcore.store import Store

POINTS = "points of 100"
UNITS = {
    "score": POINTS, "score std": POINTS, "gap": POINTS, "gap std": POINTS, "select": POINTS, "select std": POINTS,
    "last": POINTS, "last std": POINTS, "latency": "ms", "training": "s", "training std": "s",
}  # fmt: skip
"""Column -> its unit; the others count something or name it."""
_SCORES = {
    "mean": "score", "std": "score std", "gap": "gap", "gap_std": "gap std", "select": "select",
    "select_std": "select std", "last": "last", "last_std": "last std",
}  # fmt: skip


def score_numbers(store: Store, comparison: Comparison) -> pd.DataFrame:
    """One row a group, the baseline first; numbers as they are, missing ones NaN.

    Columns: method and student, n (seeds), score (mean of the dev split) and score std (sample), gap to the baseline
    over gap n pairs and its std, select and last with their stds, parameters, latency (one row), training (the loop
    alone) and its std, seeds (which), unfinished, also differs in; units in `UNITS`.
    """
    table = comparison.summary()
    scores = {name: (100 * table[column]).astype("float64").round(6) for column, name in _SCORES.items()}
    return pd.DataFrame(
        {
            "method and student": table["label"],
            "n": table["n"],
            **{name: scores[name] for name in ("score", "score std", "gap", "gap std")},
            "gap n": table["gap_n"],
            **{name: scores[name] for name in ("select", "select std", "last", "last std")},
            "parameters": table["parameters"],
            "latency": table["group"].map(group_latencies(store, comparison.finished)),
            "training": table["seconds"],
            "training std": table["seconds_std"],
            "seeds": table["seeds"],
            "unfinished": table["unfinished"],
            "options": table["options"],
            "also differs in": table["differs"],
        }
    )
