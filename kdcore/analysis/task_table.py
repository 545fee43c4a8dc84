"""Several tasks side by side: a row for runs that differ in nothing but task and seed, a column for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdcore.analysis import groups
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.task_average import by_seed, common_tasks, describe, glue_average
from kdcore.formatting import task_title
from kdcore.identity import essential
from kdcore.methods.catalog import title_of


def over_tasks(runs: pd.DataFrame, settings: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """`runs` with the columns line and line_label: equal for runs that differ in nothing but task and seed.

    Method and student always tell lines apart; of the other settings those do not that are one and the same within
    each task (epochs that suit it, say).
    """
    flat = {run: essential(settings[run]) for run in runs["id"]}
    keys = sorted({key for values in flat.values() for key in values})
    members = [list(rows["id"]) for _, rows in runs.groupby("task")]
    telling = [
        key
        for key in keys
        if key == "method"
        or key.startswith("student.")
        or any(len({str(flat[run].get(key)) for run in ids}) > 1 for ids in members)
    ]
    values_of = {run: {key: flat[run].get(key) for key in telling} for run in runs["id"]}
    runs = runs.assign(line=[str(sorted(values_of[run].items(), key=str)) for run in runs["id"]])
    short = {row["line"]: f"{title_of(row['method'])}, {row['student']}" for _, row in runs.iterrows()}
    labels = groups.labels({row["line"]: values_of[row["id"]] for _, row in runs.iterrows()}, short)
    return runs.assign(line_label=runs["line"].map(labels))


def by_task(comparisons: Sequence[Comparison]) -> tuple[pd.DataFrame, str]:
    """One row per line of `over_tasks`, one column per task, their average; and a description of the average.

    The runs are those that count in each task's comparison. The average is over the tasks that every row has; fewer
    than two make none.
    """
    numbers, common = numbers_by_task(comparisons)
    rows = []
    for label, cells in numbers.groupby("method and student", sort=False):
        texts = {
            AVERAGE if task == AVERAGE else task_title(task): groups.format_mean(mean, std, int(n))
            for task, mean, std, n in zip(*(cells[name] for name in ("task", "score", "score std", "n")), strict=True)
        }
        rows.append({"method and student": label, **texts})
    return pd.DataFrame(rows), describe(common) if common else "no two tasks were run by all"


AVERAGE = "average"


def numbers_by_task(comparisons: Sequence[Comparison]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """`by_task` as numbers, one row per line and task, the line's average last; and the tasks that this is over.

    Columns: method and student, task (a key, or `average`), score and score std (points of 100; NaN where there is
    none), n, seeds (which).
    """
    runs = pd.concat([comparison.finished for comparison in comparisons])
    settings = {run: values for comparison in comparisons for run, values in comparison.settings.items()}
    lines = over_tasks(runs, settings).rename(columns={"line": "setting"})
    common = common_tasks(lines)
    common = common if len(common) > 1 else ()
    seeds = by_seed(lines, common)
    rows = []
    for _, average in glue_average(lines, common).sort_values("average", ascending=False).iterrows():
        same = lines[lines["setting"] == average["setting"]]
        label = same["line_label"].iloc[0]
        for task in dict.fromkeys(lines["task"]):
            scored = same[(same["task"] == task) & same["score"].notna()]
            mean, std, n = groups.mean_and_std(100 * scored["score"])
            rows.append((label, task, mean, std, n, _seed_list(scored["seed"])))
        complete = seeds.loc[seeds["setting"] == average["setting"], "seed"]
        rows.append(
            (label, AVERAGE, 100 * average["average"], 100 * average["std"], average["n"], _seed_list(complete))
        )
    columns = ["method and student", "task", "score", "score std", "n", "seeds"]
    return pd.DataFrame(rows, columns=columns), common


def _seed_list(seeds: pd.Series) -> str:
    return ", ".join(f"{seed:.0f}" for seed in sorted(seeds.dropna()))
