"""The runs of a comparison: put into groups that differ in nothing but the seed, with a label each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kdcore.errors import UserError
from kdcore.figures import groups, palette
from kdcore.figures.curves import Curve, curve
from kdcore.store import Store
from pages.parts.text import amount


def grouped(store: Store, runs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """`runs` with the columns group and label, and the settings of each run.

    A run whose settings cannot be read is left out; `group` tells runs of one group apart by seed only.
    """
    configs: dict[str, dict[str, Any]] = {}
    for run in runs["id"]:
        try:
            configs[run] = store.get(run).config.model_dump(mode="json")
        except UserError:
            continue
    kept = runs[runs["id"].isin(configs)].copy()
    kept["group"] = [groups.group_of(configs[run]) for run in kept["id"]]
    short = {row["group"]: f"{palette.style(row['method']).label}, {row['student']}" for _, row in kept.iterrows()}
    one_of = {row["group"]: configs[row["id"]] for _, row in kept.iterrows()}
    kept["label"] = kept["group"].map(groups.labels(one_of, short))
    return kept, configs


def loss_curves(runs: pd.DataFrame, metrics: pd.DataFrame, kind: str, name: str, x: str) -> list[Curve]:
    """One curve a run for a logged value."""
    chosen = metrics[(metrics["kind"] == kind) & (metrics["name"] == name)]
    return _curves(runs, chosen, x)


def score_curves(
    runs: pd.DataFrame, evaluations: pd.DataFrame, metrics: pd.DataFrame, metric: str, select: bool, x: str
) -> list[Curve]:
    """One curve a run for its score: on `select`, or on the first dev split."""
    chosen = evaluations[(evaluations["metric"] == metric) & (evaluations["which"] == "last")]
    chosen = chosen[(chosen["split"] == "select") == select].drop_duplicates(["run", "split", "step"], keep="last")
    if not select and len(chosen):
        chosen = chosen[chosen["split"] == chosen["split"].iloc[0]]
    return _curves(runs, _with_clock(chosen, metrics, x), x)


def table(runs: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """One row a group: mean ± std over seeds of what the runs reached, and the distance to the baseline's mean."""
    reference = runs.loc[runs["group"] == baseline, "score"].mean() if baseline else float("nan")
    rows = []
    for group, members in runs.groupby("group", sort=False):
        mean, std, count = groups.mean_and_std(list(100 * members["score"]))
        rows.append(
            {
                "method and student": members["label"].iloc[0],
                "dev score": groups.in_words(mean, std, count),
                "Δ to baseline": _delta(str(group), baseline, mean - 100 * reference),
                "select score": groups.in_words(*groups.mean_and_std(list(100 * members["select_score"]))),
                "last student": groups.in_words(*groups.mean_and_std(list(100 * members["last_score"]))),
                "parameters": amount(members["parameters"].iloc[0]),
                "training (s)": groups.in_words(*groups.mean_and_std(list(members["seconds"])), digits=0),
                "seeds": ", ".join(f"{seed:.0f}" for seed in sorted(members["seed"].dropna())),
                "unfinished": int((members["state"] != "done").sum()),
            }
        )
    return pd.DataFrame(rows)


def teacher_score(evaluations: pd.DataFrame, metric: str) -> float | None:
    """The best teacher's dev score in these runs, or None."""
    rows = of_teachers(evaluations, metric)
    return float(rows["value"].max()) if len(rows) else None


def of_teachers(evaluations: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The teachers' scores on dev splits, with the column teacher."""
    rows = evaluations[~evaluations["which"].isin(["last", "best"])]
    rows = rows[(rows["metric"] == metric) & (rows["split"] != "select")]
    return rows.assign(teacher=rows["which"].str.removeprefix("teacher:"))


def _delta(group: str, baseline: str | None, difference: float) -> str:
    if group == baseline:
        return "baseline"
    return "–" if np.isnan(difference) else f"{difference:+.1f}"


def _curves(runs: pd.DataFrame, rows: pd.DataFrame, x: str) -> list[Curve]:
    out = []
    for _, run in runs.iterrows():
        xs, ys = curve(rows[rows["run"] == run["id"]], x)
        if len(xs):
            seed = 0 if pd.isna(run["seed"]) else int(run["seed"])
            out.append(Curve(run["name"], run["group"], run["method"], run["label"], seed, xs, ys))
    return out


def _with_clock(evaluations: pd.DataFrame, metrics: pd.DataFrame, x: str) -> pd.DataFrame:
    """Evaluations know their step only; epoch and time are read off the run's logged steps."""
    if x == "step":
        return evaluations
    parts = []
    for run, rows in evaluations.groupby("run"):
        logged = metrics[(metrics["run"] == run) & (metrics["kind"] == "loss")].sort_values("step")
        clock = np.interp(rows["step"], logged["step"], logged[x]) if len(logged) else np.nan
        parts.append(rows.assign(**{x: clock}))
    return pd.concat(parts) if parts else evaluations.assign(**{x: np.nan})
