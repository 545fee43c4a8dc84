"""Runs of several tasks: their scores side by side, and which task the rest of the page is about."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis import task_table
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.score_numbers import UNITS
from pages.parts.common import cards
from pages.parts.common.downloads import downloads
from pages.parts.common.text import plain, task_title

SCORES = ("score", "score std")


def choose(by_task: list[Comparison]) -> Comparison:
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
    table, average = task_table.by_task(by_task)
    st.dataframe(table, hide_index=True, key="compare_tasks", alt="Mean and std of each method on each task")
    st.caption(
        "Each task's main metric on its dev split, mean ± sample std over N seeds. **Average**: "
        f"{plain(average)}, over the seeds that have all of them."
    )
    downloads(
        lambda: task_table.numbers_by_task(by_task)[0],
        "Download the table",
        "tasks",
        "compare_tasks_",
        {"split": "dev, the first of each task's dev splits", "units": {name: UNITS[name] for name in SCORES}},
    )
