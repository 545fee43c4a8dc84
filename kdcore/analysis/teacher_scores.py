"""What the teachers of runs score."""

from __future__ import annotations

import pandas as pd


def teacher_scores(evaluations: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The teachers' rows of `Store.evaluations` on dev splits, with the column teacher."""
    rows = evaluations[evaluations["which"].str.startswith("teacher:")]
    rows = rows[(rows["metric"] == metric) & (rows["split"] != "select")]
    return rows.assign(teacher=rows["which"].str.removeprefix("teacher:"))


def best_teacher_score(evaluations: pd.DataFrame, metric: str) -> float | None:
    """The best teacher's dev score (a fraction), or None."""
    rows = teacher_scores(evaluations, metric)
    return float(rows["value"].max()) if len(rows) else None
