"""One number over several tasks: the mean of their main metrics, over the tasks that all compared settings have.

GLUE's own score (Wang et al. 2019, arXiv 1804.07461, section 4) averages over nine hidden test sets, and both metrics
where a task has two. Here dev splits are scored by one metric each, so the two are not to be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdcore.analysis import groups
from kdcore.formatting import task_title
from kdcore.identity import essential
from kdcore.methods.catalog import title_of
from kdcore.tasks import GLUE, TASKS

if TYPE_CHECKING:
    from kdcore.analysis.comparison import Comparison


def common_tasks(scores: pd.DataFrame) -> tuple[str, ...]:
    """The tasks on which every setting has a score, in the order of the task table; own tasks last.

    Args:
        scores: columns setting, task, score; rows without a score do not count.
    """
    known = scores.dropna(subset=["score"])
    sets = [set(rows["task"]) for _, rows in known.groupby("setting")]
    missing = set(scores["setting"]) - set(known["setting"])
    shared = set.intersection(*sets) if sets and not missing else set()
    return (*(task for task in TASKS if task in shared), *sorted(shared - set(TASKS)))


def by_seed(scores: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """The mean over `tasks` of each setting's runs of one seed; seeds that lack one of the tasks are left out.

    Args:
        scores: columns setting, task, seed, score. Two runs of one setting, task and seed count as their mean.

    Returns:
        setting, seed, average; in the units of `score`, settings in their first order.
    """
    rows = scores[scores["task"].isin(list(tasks))].dropna(subset=["score"])
    table = rows.pivot_table(index=["setting", "seed"], columns="task", values="score", aggfunc="mean", sort=False)
    complete = table.reindex(columns=list(tasks)).dropna() if tasks else table.iloc[:0]
    return complete.mean(axis=1).rename("average").reset_index()


def glue_average(scores: pd.DataFrame, tasks: Sequence[str] | None = None) -> pd.DataFrame:
    """Each setting's average over tasks, with its spread over seeds.

    The average is taken within a seed first, so the spread is that of the average and not of single tasks. A setting
    of which no seed has all the tasks has no average: NaN, n = 0.

    Args:
        scores: one row a run: setting (what the runs of one row share over tasks and seeds), task, seed, score (main
            metric on the dev split, a fraction). tasks: None: those that all settings have, see `common_tasks`.

    Returns:
        One row a setting: setting, average, std (sample, NaN for one seed), n (seeds that have every task).
    """
    chosen = common_tasks(scores) if tasks is None else tuple(tasks)
    spread = by_seed(scores, chosen).groupby("setting", sort=False)["average"].agg(["mean", "std", "count"])
    table = spread.reindex(list(dict.fromkeys(scores["setting"]))).rename_axis("setting").reset_index()
    table.columns = pd.Index(["setting", "average", "std", "n"])
    return table.assign(n=table["n"].fillna(0).astype(int))


def describe(tasks: Iterable[str]) -> str:
    """Which tasks an average is over, and whether it is a partial one: "mean over MRPC and RTE (2 of GLUE's 9 tasks: a
    partial average)"."""
    chosen = list(tasks)
    titles = [task_title(task) for task in chosen]
    listed = f"{', '.join(titles[:-1])} and {titles[-1]}" if len(titles) > 1 else "".join(titles)
    suite = {TASKS[task].suite if task in TASKS else "own" for task in chosen}
    if suite != {"glue"}:
        return f"mean over {listed} ({'synthetic, ' if suite == {'pocket'} else ''}no GLUE average)"
    part = "" if len(chosen) == len(GLUE) else ": a partial average"
    return f"mean over {listed} ({len(chosen)} of GLUE's {len(GLUE)} tasks{part})"


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
