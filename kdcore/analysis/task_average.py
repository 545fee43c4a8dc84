"""One number over several tasks: the mean of their main metrics, over the tasks that all compared settings have.

GLUE's own score (Wang et al. 2019, arXiv 1804.07461, section 4) averages over nine hidden test sets, and both metrics
where a task has two. Here dev splits are scored by one metric each, so the two are not to be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from kdcore.formatting import task_title
from kdcore.tasks import GLUE, TASKS


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
