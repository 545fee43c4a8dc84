"""What can be drawn of the runs of a comparison: their scores, and everything that they logged."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kdcore.analysis import series
from kdcore.analysis.comparison import Comparison
from kdcore.figures.template import plain as figure_plain
from kdcore.store import Store
from pages.parts.common.json_file import FRACTION
from pages.parts.common.text import metric_title

SPLITS = {"dev": "dev, the first of the task's dev splits", "select": "select: training rows kept aside"}
SCORES = tuple(SPLITS)
ONE_OF_A_KIND = {
    "lr": "Learning rate",
    "gradient_norm": "Gradient norm, before clipping",
    "speed": "Training rows per second",
}
"""Kind that holds one quantity -> its title."""
MANY_OF_A_KIND = {
    "raw": "Term {} (raw)",
    "weighted": "Term {} (weighted)",
    "gradient_share": "Share of {} in the gradient (0 to 1)",
    "note": "Read-out {}",
}
ORDER = [*MANY_OF_A_KIND, *ONE_OF_A_KIND]


def titles(store: Store, comparison: Comparison) -> dict[str, str]:
    """Key -> title, with its unit where it has one. Keys: dev, select, loss, or `kind.name`."""
    metric = metric_title(comparison.metric)
    logged = [item for item in store.quantities(list(comparison.runs["id"])) if item[0] in ORDER]
    return {
        "dev": f"{metric}, dev split",
        "select": f"{metric}, select",
        "loss": "Loss (weighted sum)",
        **{
            f"{kind}.{name}": _title(kind, name) for kind, name in sorted(logged, key=lambda item: ORDER.index(item[0]))
        },
    }


def _title(kind: str, name: str) -> str:
    return ONE_OF_A_KIND.get(kind) or MANY_OF_A_KIND[kind].format(figure_plain(name))


def points(
    store: Store, comparison: Comparison, key: str, losses: pd.DataFrame, evaluations: pd.DataFrame
) -> pd.DataFrame:
    """The quantity at each step at which it was written down: run, step, value; scores as fractions.

    Args:
        losses: the logged losses of these runs; other kinds are read here.
    """
    if key in SCORES:
        return series.student_scores(evaluations, comparison.metric, key == "select")
    kind, _, name = key.partition(".")
    rows = store.metrics(list(comparison.runs["id"]), kinds=[kind]) if name else losses
    return rows[(rows["kind"] == kind) & (rows["name"] == (name or "loss"))]


def about(comparison: Comparison, *keys: str) -> dict[str, Any]:
    """What a file of these quantities says of them."""
    return {
        "task": comparison.task,
        "metric": comparison.metric,
        "split": {key: SPLITS.get(key, "training batches") for key in keys},
        "units": {key: _unit(key) for key in keys},
        "runs": list(comparison.runs["id"]),
    }


def _unit(key: str) -> str:
    if key in SCORES:
        return FRACTION
    kind = key.partition(".")[0]
    units = {"speed": "rows per second", "gradient_share": "share of the sum of norms", "note": "as the method says"}
    return units.get(kind, "no unit" if kind in ONE_OF_A_KIND else "as the method's loss says")
