"""Speed: quality against what it costs to run, and the Pareto front."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.analysis import comparison, task_average
from kdcore.analysis import cost_points as costs
from kdcore.analysis.cost_axes import AXES, Axis
from kdcore.analysis.cost_table import cost_table
from kdcore.store import Store
from kdcore.tasks import TASKS
from pages.parts.common import cards, shell
from pages.parts.common.keys import SPEED_AXIS, SPEED_TASK
from pages.parts.common.run_picker import many_runs, the_store
from pages.parts.common.text import task_title
from pages.parts.speed import conditions, front, remeasure

AVERAGES = {"glue": "GLUE average", "pocket": "Average of the pocket tasks"}
NO_TIMES = (
    "None of the chosen runs has a number for **{}**: they were started without the latency probe, or imported. Time "
    "them below, or choose another axis above."
)


def main() -> None:
    cards.title("Speed", "What a student costs to run and what it scores, beside the same teacher, compressed.")
    store = the_store()
    runs = store.runs(include_archived=True)
    done = runs[runs["state"] == "done"]
    if done.empty:
        cards.empty("**No finished run yet.** Latency is measured when a run ends.", "start", "Go to Start")
        return
    first = done[done["task"] == done["task"].iloc[0]]["id"].tolist()
    ids = many_runs(runs, "Runs", "speed_runs", first[:30])
    chosen = done[done["id"].isin(ids)]
    if chosen.empty:
        cards.empty("**Choose finished runs** above.", "runs", "Go to Runs")
        return
    left, middle, right = st.columns([3, 3, 5])
    with left:
        task = _task(list(dict.fromkeys(chosen["task"])))
    with middle:
        axis = _axis()
    with cards.guarded("Quality against cost cannot be shown"):
        if task in AVERAGES:
            chosen, tasks = _suite(store, chosen, task)
        else:
            chosen, tasks = _counted(comparison.compare(store, chosen[chosen["task"] == task])), (task,)
        if chosen.empty:
            cards.empty("None of the chosen runs can be read.")
        elif not tasks:
            cards.empty("The chosen settings have **no task in common**, so no average. Choose one task above.")
        else:
            _show(store, chosen[chosen["task"].isin(tasks)], tasks, task in AVERAGES, axis, right)


def _task(tasks: list[str]) -> str:
    """One of the runs' tasks, or a suite of which they have several: the average over its tasks."""
    suites = [str(TASKS[task].suite) for task in tasks if task in TASKS]
    options = [*tasks, *(suite for suite in AVERAGES if suites.count(suite) > 1)]
    task = st.selectbox(
        "Task",
        options,
        key=SPEED_TASK,
        bind="query-params",
        format_func=lambda key: AVERAGES.get(key) or task_title(key),
        help="An average is over the tasks that every chosen setting has",
    )
    return task if task in options else options[0]


def _axis() -> Axis:
    key = st.selectbox("Cost", list(AXES), key=SPEED_AXIS, bind="query-params", format_func=lambda key: AXES[key].title)
    return AXES[key if key in AXES else next(iter(AXES))]


def _suite(store: Store, chosen: pd.DataFrame, suite: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The suite's runs in groups that hold over tasks, and the tasks that every group has."""
    of_suite = chosen[[task in TASKS and TASKS[task].suite == suite for task in chosen["task"]]]
    comparisons = comparison.compare(store, of_suite)
    runs = _counted(comparisons)
    if runs.empty:
        return runs, ()
    settings = {run: values for task in comparisons for run, values in task.settings.items()}
    lines = task_average.over_tasks(runs, settings)
    runs = runs.assign(group=lines["line"], label=lines["line_label"])
    return runs, costs.shared_tasks(runs)


def _counted(comparisons: list[comparison.Comparison]) -> pd.DataFrame:
    """The finished runs that count, with group and label."""
    parts = [task.finished for task in comparisons]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["id", "task", "group", "label"])


def _show(
    store: Store, runs: pd.DataFrame, tasks: tuple[str, ...], average: bool, axis: Axis, right: DeltaGenerator
) -> None:
    """Everything below the choices. right: the column for the conditions of the measurements."""
    with st.container(horizontal=True):
        cards.badges(tasks[0], comparison.partial_data(store, list(runs["id"])))
    table = cost_table(store, runs)
    on_axis, sizes = table[table["axis"] == axis.key], costs.student_sizes(table)
    options = costs.conditions(on_axis, whole=not average)
    if options:
        with right:
            condition = conditions.choose(list(options))
        where, tokens = options[condition]
        if tokens is None:
            points = costs.averaged(on_axis, where, runs, sizes, tasks)
            length = "each task at its mean length"
        else:
            points, length = costs.of_task(on_axis, where, tokens, runs, sizes), f"{tokens} tokens"
        front.show(
            points,
            runs,
            axis,
            condition,
            axis.words.format(length=length),
            conditions.quality_title(runs, tasks, average),
        )
        front.notes(points, runs, on_axis, tasks if average else ())
    else:
        cards.empty(NO_TIMES.format(axis.title))
    st.subheader("Compression baselines", anchor=False)
    with cards.guarded("The baselines cannot be shown"):
        remeasure.show(store, runs, table)


shell.show(main)
