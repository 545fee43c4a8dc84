"""The runs of a comparison: put into groups that differ in nothing but the seed, with a label each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdcore.analysis import groups, task_average
from kdcore.analysis.significance import Verdict, compare, contributions
from kdcore.errors import UserError
from kdcore.figures import palette
from kdcore.figures.curves import Curve, curve
from kdcore.figures.race import Racer, Track
from kdcore.formatting import amount, task_title
from kdcore.paths import run_dir
from kdcore.store import Store
from kdcore.tasks import TASKS


def grouped(store: Store, runs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """`in_groups`, and `labelled`."""
    kept, configs = in_groups(store, runs)
    return labelled(kept, configs), configs


def in_groups(store: Store, runs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """`runs` with the column group, equal for runs that differ in nothing but the seed, and the settings of each run.

    A run whose settings cannot be read is left out.
    """
    read = store.settings(list(runs["id"]))
    configs = {run: config.model_dump(mode="json") for run, config in read.items()}
    kept = runs[[run in configs for run in runs["id"]]]
    return kept.assign(group=[groups.group_of(configs[run]) for run in kept["id"]]), configs


def labelled(runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """`runs` with the column label: one for each of their groups, told apart by no more than these runs ask for."""
    first = runs.drop_duplicates("group")
    short = {
        group: f"{palette.style(method).label}, {student}"
        for group, method, student in zip(first["group"], first["method"], first["student"], strict=True)
    }
    one_of = {group: configs[run] for group, run in zip(first["group"], first["id"], strict=True)}
    return runs.assign(label=runs["group"].map(groups.labels(one_of, short)))


def partial_words(store: Store, runs: Sequence[str]) -> str:
    """On which part of the data these runs were trained, or empty where all were on the whole."""
    found = (row.facts.get("partial") for row in store.rows(runs).values())
    return "; ".join(sorted({str(words) for words in found if words}))


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
    return _curves(runs, _with_clock(_scores(evaluations, metric, select), metrics, x), x)


def racer(
    run: str, method: str, name: str, evaluations: pd.DataFrame, metrics: pd.DataFrame, metric: str
) -> Racer | None:
    """A run's dev scores and losses over its own clock; None where it has logged no step."""
    logged = metrics[(metrics["run"] == run) & (metrics["kind"] == "loss")]
    if logged["seconds"].notna().sum() == 0:
        return None
    scores = _with_clock(_scores(evaluations[evaluations["run"] == run], metric, False), metrics, "seconds")
    return Racer(name, method, float(logged["seconds"].max()), _track(scores), _track(logged))


def _track(points: pd.DataFrame) -> Track:
    points = points[points["seconds"].notna() & points["value"].notna()].sort_values("seconds", kind="stable")
    return Track(*(points[column].to_numpy(dtype=np.float64) for column in ("seconds", "step", "value")))


def _scores(evaluations: pd.DataFrame, metric: str, select: bool) -> pd.DataFrame:
    """What the student as it was scored at each evaluation: on `select`, or on the first dev split."""
    chosen = evaluations[(evaluations["metric"] == metric) & (evaluations["which"] == "last")]
    chosen = chosen[(chosen["split"] == "select") == select].drop_duplicates(["run", "split", "step"], keep="last")
    if not select and len(chosen):
        chosen = chosen[chosen["split"] == chosen["split"].iloc[0]]
    return chosen


def deltas(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The runs of the other groups, their score less that of the baseline's run of the same seed.

    Runs whose seed the baseline does not have are left out.
    """
    reference = runs[runs["group"] == baseline].groupby("seed")["score"].mean()
    others = runs[runs["group"] != baseline]
    return others.assign(score=others["score"] - others["seed"].map(reference)).dropna(subset=["score"])


def over_fine_tuning(runs: pd.DataFrame) -> pd.Series:
    """Each run's score less that of fine-tuning alone with the same student, training and seed; NaN without one.

    Args:
        runs: rows of `Store.runs`; fine-tuning alone is looked for among them.
    """
    alone = runs[runs["method"] == "fine-tune"].groupby(["protocol", "seed"])["score"].mean()
    theirs = alone.reindex(pd.MultiIndex.from_frame(runs[["protocol", "seed"]])).to_numpy()
    return (runs["score"] - theirs).where(runs["method"] != "fine-tune")


def over_tasks(runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """`runs` with the columns line and line_label: equal for runs that differ in nothing but task and seed.

    Method and student always tell lines apart; of the other settings those do not that are one and the same within
    each task (epochs that suit it, say).
    """
    flats = {run: groups.essential(configs[run]) for run in runs["id"]}
    keys = sorted({key for one in flats.values() for key in one})
    members = [list(one["id"]) for _, one in runs.groupby("task")]
    telling = [
        key
        for key in keys
        if key == "method"
        or key.startswith("student.")
        or any(len({str(flats[run].get(key)) for run in ids}) > 1 for ids in members)
    ]
    one_of = {run: {key: flats[run].get(key) for key in telling} for run in runs["id"]}
    runs = runs.assign(line=[str(sorted(one_of[run].items(), key=str)) for run in runs["id"]])
    short = {row["line"]: f"{palette.style(row['method']).label}, {row['student']}" for _, row in runs.iterrows()}
    labels = groups.labels({row["line"]: one_of[row["id"]] for _, row in runs.iterrows()}, short)
    return runs.assign(line_label=runs["line"].map(labels))


def by_task(runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> tuple[pd.DataFrame, str]:
    """One row a line of `over_tasks`, one column a task, their average; and what the average is, in words.

    The average is over the tasks that every row has; fewer than two make none.
    """
    lines = over_tasks(runs, configs).rename(columns={"line": "setting"})
    common = task_average.common_tasks(lines)
    common = common if len(common) > 1 else ()
    averages = task_average.glue_average(lines, common).sort_values("average", ascending=False)
    rows = []
    for _, average in averages.iterrows():
        same = lines[lines["setting"] == average["setting"]]
        found = {task: 100 * same.loc[same["task"] == task, "score"] for task in dict.fromkeys(lines["task"])}
        cells = {task_title(task): groups.in_words(*groups.mean_and_std(list(one))) for task, one in found.items()}
        words = groups.in_words(100 * average["average"], 100 * average["std"], int(average["n"]))
        rows.append({"method and student": same["line_label"].iloc[0], **cells, "average": words})
    return pd.DataFrame(rows), task_average.in_words(common) if common else "no two tasks were run by all"


def baseline_of(runs: pd.DataFrame, wanted: str | None = None) -> str:
    """The group that the others are set against: that of the run `wanted`, else of training alone, else the first."""
    for chosen in (runs[runs["id"] == wanted], runs[runs["method"] == "fine-tune"], runs):
        if len(chosen):
            return str(chosen["group"].iloc[0])
    raise ValueError("there are no runs to choose a baseline from")


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


KeptRows = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Ids of the dev rows [rows] and what each adds to the run's score [rows]."""


def verdict(
    first: pd.DataFrame,
    second: pd.DataFrame,
    metric: str,
    kept: Callable[[str, str, str], KeptRows | None] | None = None,
) -> Verdict:
    """First less second: from the rows where every run kept its answers on the same ones, else from the scores.

    Args:
        first, second: finished runs of two groups: id, task, seed, score. kept: `kept_rows`, or the same remembered.
    """
    read = kept or kept_rows
    done = [one[one["score"].notna()].drop_duplicates("seed") for one in (first, second)]
    rows = [{int(run["seed"]): read(run["id"], run["task"], metric) for _, run in one.iterrows()} for one in done]
    known = [found for one in rows for found in one.values() if found is not None]
    if known and len(known) == sum(map(len, rows)) and all(np.array_equal(ids, known[0][0]) for ids, _ in known):
        values = [{seed: found[1] for seed, found in one.items() if found is not None} for one in rows]
        return compare(values[0], values[1])
    scores = [dict(zip(one["seed"].astype(int), one["score"], strict=True)) for one in done]
    return compare(scores[0], scores[1])


def kept_rows(run: str, task: str, metric: str) -> KeptRows | None:
    """What the run's student said on the dev split, as parts of its score; None where that is not known."""
    from kdcore.engine.results import predictions

    try:
        kept = predictions(run_dir(run))
    except UserError:
        return None
    split = TASKS[task].splits[0] if task in TASKS else "validation"
    said = kept.get((split, "student"))
    if said is None:
        return None
    values = contributions(metric, said["logits"], said["labels"])
    return None if values is None else (said["ids"], values)


def timings(probes: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The records of a run's probe "latency" or "rivals" that hold a time."""
    found = probes.get(name)
    listed = found.get("records") if isinstance(found, Mapping) else None
    return [one for one in listed or [] if isinstance(one, Mapping) and "median_ms" in one]


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
