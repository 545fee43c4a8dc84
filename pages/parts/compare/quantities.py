"""What can be drawn of the runs of a comparison: their scores, and everything that they logged."""

from __future__ import annotations

import pandas as pd

from kdcore.analysis import series
from kdcore.analysis.comparison import Comparison
from kdcore.figures.template import plain as figure_plain
from kdcore.store import Store
from pages.parts.common.text import metric_title

SCORES = ("dev", "select")
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
    """The quantity at each step at which it was written down: run, step, value; scores times 100.

    Args:
        losses: the logged losses of these runs; other kinds are read here.
    """
    if key in SCORES:
        scores = series.student_scores(evaluations, comparison.metric, key == "select")
        return scores.assign(value=100 * scores["value"])
    kind, _, name = key.partition(".")
    rows = store.metrics(list(comparison.runs["id"]), kinds=[kind]) if name else losses
    return rows[(rows["kind"] == kind) & (rows["name"] == (name or "loss"))]
