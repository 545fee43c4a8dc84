"""Speed: which student is good and cheap enough; quality against cost, and the Pareto front."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.analysis import comparison, task_table
from kdcore.analysis import cost_points as costs
from kdcore.analysis.blind_guess import guess_of_all
from kdcore.analysis.cost_axes import AXES, Axis
from kdcore.analysis.cost_table import cost_table, metrics_of, scored_by
from kdcore.store import Store
from kdcore.tasks import TASKS
from pages.parts.common import cards, empty_store, shell
from pages.parts.common.keys import SPEED_AXIS, SPEED_TASK
from pages.parts.common.run_picker import many_runs, the_store
from pages.parts.common.text import task_title
from pages.parts.speed import absent, bounds, conditions, front, measured, plot_words, sections
from pages.parts.speed.front import Question

AVERAGES = {"glue": "GLUE average", "pocket": "Average of the pocket tasks"}
Shown = tuple[pd.DataFrame, pd.DataFrame]
"""The runs that count, and their `cost_table`."""


def main() -> None:
    cards.title("Speed", "The student that is good and cheap enough, beside its teachers and the same ones compressed.")
    store = the_store()
    sections.show(store, _runs(store))


def _runs(store: Store) -> Shown | None:
    """Quality against cost of the runs that are chosen; None where none can be shown."""
    runs = store.runs(include_archived=True)
    done = runs[runs["state"] == "done"]
    if done.empty:
        empty_store.show("**No finished run yet.** Latency is measured when a run ends.")
        return None
    box = st.container()
    first = done[done["task"] == done["task"].iloc[0]]["id"].tolist()
    asked, how = (st.container(horizontal=True, vertical_alignment="bottom") for _ in range(2))
    with how, st.popover("Runs", icon=":material/checklist:", key="speed_runs_open"):
        ids = many_runs(runs, "Runs", "speed_runs", first[:30])
    chosen = done[done["id"].isin(ids)]
    if chosen.empty:
        cards.empty("**Choose finished runs** above.", "runs", "Go to All runs")
        return None
    with how:
        axis = _axis()
    with asked, cards.guarded("Quality against cost cannot be shown"):
        task = _task(list(dict.fromkeys(chosen["task"])))
        if task in AVERAGES:
            chosen, tasks = _suite(store, chosen, task)
        else:
            chosen, tasks = _one_task(store, chosen[chosen["task"] == task]), (task,)
        question = Question(axis, bounds.share(), bounds.cost(axis))
    with cards.guarded("Quality against cost cannot be shown"):
        if chosen.empty:
            cards.empty("None of the chosen runs can be read.")
        elif not tasks:
            cards.empty("The chosen settings have **no task in common**, so no average. Choose one task above.")
        else:
            return _show(store, chosen[chosen["task"].isin(tasks)], tasks, task in AVERAGES, question, (box, how))
    return None


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


def _one_task(store: Store, chosen: pd.DataFrame) -> pd.DataFrame:
    """The runs that count, scored by the chosen metric."""
    metric = conditions.metric(metrics_of(store, chosen))
    counted = _final_runs(comparison.compare(store, chosen))
    return counted if counted.empty else scored_by(store, counted, metric)


def _suite(store: Store, chosen: pd.DataFrame, suite: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The suite's runs in groups that hold over tasks, and the tasks that every group has."""
    of_suite = chosen[[task in TASKS and TASKS[task].suite == suite for task in chosen["task"]]]
    comparisons = comparison.compare(store, of_suite)
    runs = _final_runs(comparisons)
    if runs.empty:
        return runs, ()
    settings = {run: values for task in comparisons for run, values in task.settings.items()}
    lines = task_table.over_tasks(runs, settings)
    runs = runs.assign(group=lines["line"], label=lines["line_label"])
    return runs, costs.shared_tasks(runs)


def _final_runs(comparisons: list[comparison.Comparison]) -> pd.DataFrame:
    """The finished runs that count, with group and label."""
    parts = [task.finished for task in comparisons]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["id", "task", "group", "label"])


def _show(
    store: Store, runs: pd.DataFrame, tasks: tuple[str, ...], average: bool, question: Question,
    places: tuple[DeltaGenerator, DeltaGenerator],
) -> Shown:  # fmt: skip
    """Answer and plot. places: for the answer, and for the conditions of the measurements."""
    table, axis = cost_table(store, runs), question.axis
    on_axis = table[table["axis"] == axis.key]
    options = costs.conditions(on_axis, whole=not average)
    if options:
        with places[1]:
            condition = conditions.choose(list(options))
        seen = measured.read(table, axis, (condition, options[condition]), runs, tasks)
        with places[0]:
            choice = front.decide(store, seen, runs, table, question)
        guess = guess_of_all(store, runs)
        front.show(seen, runs, axis, choice, conditions.quality_title(runs, tasks, average), guess)
        plot_words.notes(seen.points, runs, on_axis, tasks if average else (), axis)
    else:
        absent.show(store, runs, table, axis)
    with st.container(horizontal=True):
        cards.badges(tasks[0], comparison.partial_data(store, list(runs["id"])))
    return runs, table


shell.show(main)
