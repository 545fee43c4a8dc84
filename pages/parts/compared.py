"""The runs of a comparison: put into groups that differ in nothing but the seed, with a label each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdcore.errors import UserError
from kdcore.figures import groups, palette
from kdcore.figures.curves import Curve, curve
from kdcore.store import Store
from pages.parts.text import amount, task_title


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


def with_rows_seen(points: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Metrics or evaluations with the column examples: steps times rows a step."""
    sizes = {run: config["train"]["batch_size"] for run, config in configs.items()}
    return points.assign(examples=points["step"] * points["run"].map(sizes))


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


def deltas(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The runs of the other groups, their score less that of the baseline's run of the same seed.

    Runs whose seed the baseline does not have are left out.
    """
    reference = runs[runs["group"] == baseline].groupby("seed")["score"].mean()
    others = runs[runs["group"] != baseline]
    return others.assign(score=others["score"] - others["seed"].map(reference)).dropna(subset=["score"])


def by_task(runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a method and its settings, one column a task, and their average where every task is there.

    Settings that are one and the same within each task (epochs that suit it, say) do not tell rows apart.
    """
    flats = {run: groups.essential(configs[run]) for run in runs["id"]}
    keys = sorted({key for one in flats.values() for key in one})
    members = [list(one["id"]) for _, one in runs.groupby("task")]
    telling = [key for key in keys if any(len({str(flats[run].get(key)) for run in ids}) > 1 for ids in members)]
    one_of = {run: {key: flats[run].get(key) for key in telling} for run in runs["id"]}
    runs = runs.assign(line=[str(sorted(one_of[run].items(), key=str)) for run in runs["id"]])
    short = {row["line"]: f"{palette.style(row['method']).label}, {row['student']}" for _, row in runs.iterrows()}
    labels = groups.labels({row["line"]: one_of[row["id"]] for _, row in runs.iterrows()}, short)
    tasks = list(dict.fromkeys(runs["task"]))
    rows = []
    for line, same in runs.groupby("line", sort=False):
        found = [groups.mean_and_std(list(100 * same.loc[same["task"] == task, "score"])) for task in tasks]
        cells = {task_title(task): groups.in_words(*one) for task, one in zip(tasks, found, strict=True)}
        average = float(np.mean([mean for mean, _, _ in found]))
        row = {"method and student": labels[str(line)], **cells}
        rows.append(row | {"average": "–" if np.isnan(average) else f"{average:.1f}", "_order": -average})
    return pd.DataFrame(rows).sort_values("_order", ignore_index=True).drop(columns="_order")


def table(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """One row a group: mean ± std over seeds of what its runs reached, and the gap to the baseline on shared seeds."""
    gaps = deltas(runs, baseline)
    rows = []
    for group, members in runs.groupby("group", sort=False):
        mean, std, count = groups.mean_and_std(list(100 * members["score"]))
        rows.append(
            {
                "method and student": members["label"].iloc[0],
                "dev score": groups.in_words(mean, std, count),
                "Δ to baseline": "baseline" if group == baseline else _gap(gaps[gaps["group"] == group]),
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


def _gap(members: pd.DataFrame) -> str:
    mean, std, count = groups.mean_and_std(list(100 * members["score"]))
    return groups.in_words(mean, std, count, sign=True)


def _curves(runs: pd.DataFrame, rows: pd.DataFrame, x: str) -> list[Curve]:
    out = []
    for _, run in runs.iterrows():
        xs, ys = curve(rows[rows["run"] == run["id"]], x)
        if len(xs):
            seed = 0 if pd.isna(run["seed"]) else int(run["seed"])
            out.append(Curve(run["name"], run["group"], run["method"], run["label"], seed, xs, ys))
    return out


def _with_clock(evaluations: pd.DataFrame, metrics: pd.DataFrame, x: str) -> pd.DataFrame:
    """Evaluations know their step and the rows seen; epoch and time are read off the run's logged steps."""
    if x in evaluations:
        return evaluations
    parts = []
    for run, rows in evaluations.groupby("run"):
        logged = metrics[(metrics["run"] == run) & (metrics["kind"] == "loss")].sort_values("step")
        clock = np.interp(rows["step"], logged["step"], logged[x]) if len(logged) else np.nan
        parts.append(rows.assign(**{x: clock}))
    return pd.concat(parts) if parts else evaluations.assign(**{x: np.nan})
