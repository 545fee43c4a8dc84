"""Compare: scores, verdicts, curves and settings of several runs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis import comparison as comparisons
from kdcore.analysis import task_average
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.teacher_scores import best_teacher_score
from kdcore.store import Store
from pages.parts.common import cards, queue_runs, shell
from pages.parts.common.run_picker import many_runs, the_store
from pages.parts.common.text import plain, task_title
from pages.parts.compare import ablation, curves, race, report, scope, scores, settings, significance

MOST_SUGGESTED = 12
"""Runs that are chosen where the address names none."""
MOST_GROUPS = 6
"""More groups on one plot are hard to tell apart."""


def main() -> None:
    cards.title("Compare", "Runs of one protocol side by side: what differs is the method. Colour tells the family.")
    store = the_store()
    everything = store.runs(include_archived=True)
    if everything.empty:
        cards.empty(
            "**Nothing to compare yet.** The one-minute demo makes runs with and without a teacher.",
            "start",
            "Go to Start",
        )
        return
    picked = many_runs(
        everything, "Runs", "compare_runs", suggestion(everything),
        help="Runs that differ in nothing but the seed are drawn as one mean with a band",
    )  # fmt: skip
    if not picked:
        cards.empty("**Choose two or more runs** above, or tick rows on the page Runs.", "runs", "Go to Runs")
        return
    queue_runs.confirm()
    chosen = everything[everything["id"].isin(picked)]
    by_task = {comparison.task: comparison for comparison in comparisons.compare(store, chosen)}
    scope.unreadable(store, chosen, list(by_task.values()))
    if not by_task:
        cards.empty("None of the chosen runs can be read.")
        return
    comparison = _one_task(store, _task(list(by_task.values())), everything)
    report.show(store, picked, str(comparison.members(comparison.baseline)["id"].iloc[0]))


def suggestion(everything: pd.DataFrame) -> list[str]:
    """Finished runs of one protocol: of the newest task's protocols the one with most of them, the newest runs."""
    done = everything[everything["state"] == "done"]
    if done.empty:
        return []
    done = done[done["task"] == done["task"].iloc[0]]
    protocol = done["protocol"].value_counts(sort=True).index[0]
    return list(done[done["protocol"] == protocol]["id"][:MOST_SUGGESTED])


def _task(by_task: list[Comparison]) -> Comparison:
    """The comparison of one task; of several, their average stands above the choice."""
    tasks = {comparison.task: comparison for comparison in by_task}
    if len(tasks) == 1:
        return by_task[0]
    with cards.guarded("The scores by task cannot be shown"):
        _scores_by_task(by_task)
    picked = st.selectbox(
        "Task", list(tasks), key="ctask", bind="query-params", format_func=task_title,
        help="Scores of different tasks do not share an axis",
    )  # fmt: skip
    return tasks.get(picked, by_task[0])


def _scores_by_task(by_task: list[Comparison]) -> None:
    st.subheader("Scores by task", anchor=False)
    table, average = task_average.by_task(by_task)
    st.dataframe(table, hide_index=True, key="compare_tasks", alt="Mean and std of each method on each task")
    st.caption(
        "Each task's main metric on its dev split, mean ± sample std over N seeds. **Average**: "
        f"{plain(average)}, over the seeds that have all of them."
    )
    scores.download(table, "tasks")


def _one_task(store: Store, comparison: Comparison, everything: pd.DataFrame) -> Comparison:
    """All about one task; returns the comparison against the chosen baseline."""
    ids = list(comparison.runs["id"])
    with st.container(horizontal=True):
        cards.badges(comparison.task, comparisons.partial_data(store, ids))
    if len(comparison.labels) > MOST_GROUPS:
        st.info(
            f"{len(comparison.labels)} groups on one plot are hard to tell apart; choose fewer for a clear picture."
        )
    metrics = store.metrics(ids, kinds=["loss"])  # other kinds are read when their curve is asked for
    evaluations = store.evaluations(ids)
    comparison = scores.baseline(comparison)
    with cards.guarded("The final scores cannot be shown"):
        scores.show(comparison, evaluations)
        scope.show(comparison, everything)
    with cards.guarded("The verdict cannot be given"):
        significance.show(comparison)
    with cards.guarded("Where the gain comes from cannot be shown"):
        ablation.show(store, comparison, everything, best_teacher_score(evaluations, comparison.metric))
    with cards.guarded("The curves cannot be shown"):
        curves.show(store, comparison, metrics, evaluations)
    with cards.guarded("The race cannot be shown"):
        race.show(store, comparison, metrics, evaluations)
    with cards.guarded("The settings cannot be compared"):
        settings.show(comparison)
    return comparison


shell.show(main)
