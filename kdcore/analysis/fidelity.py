"""How closely students follow their teachers: in their answers, and in the words that decide them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdcore.analysis.comparison import Comparison

if TYPE_CHECKING:
    from kdcore.store import Store

COLUMNS = {
    "agreement": "same label",
    "kl": "KL (nats)",
    "pearson": "Pearson's r",
    "mse": "squared difference",
    "spearman": "saliency loyalty (rank)",
    "cosine": "saliency loyalty (cosine)",
}
"""Of the probes `fidelity` and `saliency` -> a column's title."""
HOW = (
    "Student against teacher on the first dev split, whatever the gold labels say; means over a group's finished runs. "
    "Same label: share of rows on which both predict the same. KL: KL(teacher || student), mean over rows. Saliency "
    "loyalty: gradient x input of both models on the words of 64 dev rows, for the class that the teacher predicts; "
    "Spearman's rank correlation and cosine over a row's words, mean over rows. 1: the same words decide. It is "
    "measured where a run has the setting probes.saliency."
)


def table(store: Store, comparison: Comparison) -> pd.DataFrame:
    """One row for each group and teacher: the means over the group's finished runs, and how many runs were measured.

    What no run measured has no column; groups without a teacher have no row.
    """
    order = list(comparison.labels)  # the baseline's first
    finished = comparison.finished.sort_values("group", key=lambda groups: groups.map(order.index), kind="stable")
    probes = store.probes_of(list(finished["id"]), ("fidelity", "saliency"))
    rows = [
        {"method and student": comparison.labels[group], "run": run, **found}
        for run, group in zip(finished["id"], finished["group"], strict=True)
        for found in _by_teacher(probes.get(run, {}))
    ]
    if not rows:
        return pd.DataFrame()
    groups = pd.DataFrame(rows).groupby(["method and student", "teacher"], sort=False)
    means = groups[[key for key in COLUMNS if any(key in row for row in rows)]].mean().dropna(axis="columns", how="all")
    means.insert(0, "runs", groups["run"].nunique())
    return means.rename(columns=COLUMNS).reset_index()


def _by_teacher(probes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The numbers of one run."""
    answers, words = probes.get("fidelity", {}), probes.get("saliency", {}).get("teachers", {})
    for teacher in dict.fromkeys([*answers, *words]):
        of_answers: Mapping[str, Any] = next(iter(answers.get(teacher, {}).values()), {})
        found = {**of_answers, **words.get(teacher, {})}
        yield {"teacher": teacher, **{key: float(found[key]) for key in COLUMNS if found.get(key) is not None}}
