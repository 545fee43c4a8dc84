"""Speed: quality against what it costs to run, and what nobody beats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.analysis import comparison, task_average
from kdcore.analysis import cost_points as costs
from kdcore.analysis import pareto as fronts
from kdcore.analysis.cost_axes import AXES, Axis
from kdcore.analysis.cost_table import cost_table
from kdcore.figures import pareto
from kdcore.store import Store
from kdcore.tasks import TASKS
from pages.parts.common import cards, shell
from pages.parts.common.plot import Click
from pages.parts.common.run_picker import many_runs, the_store
from pages.parts.common.text import hundredfold, listed, metric_title, plain, sentence, task_title
from pages.parts.speed import remeasure
from pages.parts.speed.budget_answer import answer

AVERAGES = {"glue": "GLUE average", "pocket": "Average of the pocket tasks"}
HOW = (
    "**Latency**: median over repeats of one forward pass in eval mode, student and teachers in turn, so that a "
    "slow moment of the machine meets all of them; tokenisation is not counted. It depends on size and length, not on "
    "weights, so runs of one size are repeats of one measurement: their median counts, of those on a quiet machine "
    "where there are any. **Quality**: dev score of the "
    "student that `select` chose. **Parameters and operations** follow from the size; a multiply-add counts 2. A point "
    "is on the line where no other is at least as cheap and at least as good, and better in one of both. **Band and "
    f"share**: seeds drawn anew {fronts.RESAMPLES} times, with replacement, cost and score of a run together; the band "
    "holds the middle 80 % of the fronts, the share says how often a point was on one."
)
NO_TIMES = (
    "None of the chosen runs has a number for **{}**: they were started without the latency probe, or brought from "
    "elsewhere. Time them below, or choose another axis above."
)


def main() -> None:
    cards.title(
        "Speed", "What a student costs to run, and what it is worth. Its rivals: its teacher, only made cheaper."
    )
    store = the_store()
    everything = store.runs(include_archived=True)
    done = everything[everything["state"] == "done"]
    if done.empty:
        cards.empty("**No finished run yet.** Latency is measured when a run ends.", "start", "Go to Start")
        return
    first = done[done["task"] == done["task"].iloc[0]]["id"].tolist()
    picked = many_runs(everything, "Runs", "speed_runs", first[:30])
    chosen = done[done["id"].isin(picked)]
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
            runs, tasks = _settings(store, chosen, task)
        else:
            runs, tasks = _counted(comparison.compare(store, chosen[chosen["task"] == task])), (task,)
        if runs.empty:
            cards.empty("None of the chosen runs can be read.")
        elif not tasks:
            cards.empty("The chosen settings have **no task in common**, so no average. Choose one task above.")
        else:
            _show(store, runs[runs["task"].isin(tasks)], tasks, task in AVERAGES, axis, right)


def _task(tasks: list[str]) -> str:
    """One of the runs' tasks, or a suite of which they have several: the average over its tasks."""
    suites = [str(TASKS[task].suite) for task in tasks if task in TASKS]
    options = [*tasks, *(suite for suite in AVERAGES if suites.count(suite) > 1)]
    picked = st.selectbox(
        "Task",
        options,
        key="stask",
        bind="query-params",
        format_func=lambda key: AVERAGES.get(key) or task_title(key),
        help="An average is over the tasks that every chosen setting has",
    )
    return picked if picked in options else options[0]


def _axis() -> Axis:
    picked = st.selectbox(
        "Against", list(AXES), key="saxis", bind="query-params", format_func=lambda key: AXES[key].title
    )
    return AXES[picked if picked in AXES else next(iter(AXES))]


def _settings(store: Store, chosen: pd.DataFrame, suite: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The suite's runs in groups that hold over tasks, and the tasks that every group has."""
    of_suite = chosen[[task in TASKS and TASKS[task].suite == suite for task in chosen["task"]]]
    comparisons = comparison.compare(store, of_suite)
    runs = _counted(comparisons)
    if runs.empty:
        return runs, ()
    settings = {run: values for one in comparisons for run, values in one.settings.items()}
    lines = task_average.over_tasks(runs, settings)
    runs = runs.assign(group=lines["line"], label=lines["line_label"])
    return runs, costs.shared_tasks(runs)


def _counted(comparisons: list[comparison.Comparison]) -> pd.DataFrame:
    """The finished runs that count, with group and label."""
    parts = [one.finished for one in comparisons]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["id", "task", "group", "label"])


def _show(store: Store, runs: pd.DataFrame, tasks: tuple[str, ...], average: bool, axis: Axis, corner: Any) -> None:
    with st.container(horizontal=True):
        cards.badges(tasks[0], comparison.partial_data(store, list(runs["id"])))
    everything = cost_table(store, runs)
    found, sizes = everything[everything["axis"] == axis.key], costs.student_sizes(everything)
    options = costs.conditions(found, whole=not average)
    if options:
        with corner:
            words = _condition(list(options))
        where, tokens = options[words]
        if tokens is None:
            seen = costs.averaged(found, where, runs, sizes, tasks)
            length = "each task at its mean length"
        else:
            seen, length = costs.of_task(found, where, tokens, runs, sizes), f"{tokens} tokens"
        _plot(seen, runs, axis, words, axis.words.format(length=length), _quality(runs, tasks, average))
        _said_of(seen, runs, found, tasks, average)
    else:
        cards.empty(NO_TIMES.format(axis.title))
    st.subheader("Undistilled rivals", anchor=False)
    with cards.guarded("The rivals cannot be shown"):
        remeasure.show(store, runs, everything)


def _condition(options: list[str]) -> str:
    if options == [""]:
        return ""
    picked = st.selectbox(
        "Measured on",
        options,
        key="speed_setting",
        help="Numbers of different hardware, precision, threads or length do not share a plot",
    )
    return picked if picked in options else options[0]


def _quality(runs: pd.DataFrame, tasks: tuple[str, ...], average: bool) -> str:
    if average:
        return f"Mean of {len(tasks)} tasks (×100), dev splits"
    metric = next((m for m in runs["metric"] if isinstance(m, str) and m), "accuracy")
    return f"{metric_title(metric)}, dev split"


def _plot(seen: pd.DataFrame, runs: pd.DataFrame, axis: Axis, where: str, x_title: str, y_title: str) -> None:
    points = fronts.points(seen, axis.better)
    drawn = points[np.isfinite(points["cost"]) & np.isfinite(points["quality"])]
    least = _least(drawn, axis)
    if len(drawn) < 3:
        st.info("A front needs at least three points; these are shown as they are.")
    edges, dark = fronts.band(seen, axis.better), cards.dark()
    marks = ["Points are means over seeds, whiskers ± std" if drawn["n"].max() > 1 else "One seed each"]
    marks += ["students of one size share their times"] if axis.timed else []
    marks += ["shaded: where the line runs when seeds are drawn anew"] if len(edges) else []
    marks += ["grey: below the share asked for"] if least is not None and (drawn["quality"] < least).any() else []
    marks += ["faint: another is as cheap and better, or as good and cheaper", "the line is of the chosen runs only"]
    marks += ["hollow: taken on a busy machine"] if drawn["busy"].any() else []
    click = cards.figure(
        lambda: pareto.scatter(
            points, x_title, y_title, edges=edges, better=axis.better, least=least, si=axis.si, dark=dark
        ),
        "speed_scatter",
        f"{sentence(plain(where, 300))} {'; '.join(marks)}. Click a point to go to its run.",
        data=_table(points, axis),
        follows=f"{where} {axis.key}",
        how=HOW,
        on_click="rerun",
    )
    _open(click, runs)


def _least(drawn: pd.DataFrame, axis: Axis) -> float | None:
    """The quality that a person asks for, and in a sentence what is left of the students."""
    teachers = drawn.loc[drawn["kind"] == "teacher", "quality"]
    if teachers.empty or not teachers.max() > 0:
        st.caption("No teacher was measured here, so nothing says how much of one is kept.")
        return None
    share = st.slider(
        "At least this share of the best teacher's score", 50.0, 100.0, 90.0, 0.5, format="%.1f %%", key="sleast",
        bind="query-params",
    )  # fmt: skip
    with st.container(border=True, key="speed_answer"):
        st.markdown(answer(drawn, share / 100, axis))
    return share / 100 * float(teachers.max())


def _table(points: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    named = {"label": "model", "cost": axis.title, "cost_spread": f"{axis.title}, std", "quality": "dev score",
             "quality_spread": "dev score, std", "n": "seeds", "share": "share on the front"}  # fmt: skip
    return points.drop(columns=["key", "kind"]).rename(columns=named)


def _said_of(
    seen: pd.DataFrame, runs: pd.DataFrame, found: pd.DataFrame, tasks: tuple[str, ...], average: bool
) -> None:
    """What the plot leaves out, which tasks an average is over, and what not to trust."""
    if average:
        st.caption(f"{sentence(task_average.describe(tasks))} Each task counts alike, by its main metric.")
    if seen["busy"].any():
        st.warning(
            "Other work held the machine while the hollow ones were timed: trust the order, not the numbers. They can "
            "be timed again below.",
            icon=":material/warning:",
        )
    drawn = seen.dropna(subset=["cost", "quality"])
    missing = sorted({*runs["label"], *seen["label"]} - set(drawn["label"]))
    elsewhere = set(found.loc[found["cost"].notna(), "label"])
    for words, labels in (
        ("Measured under other conditions, so not drawn here", [one for one in missing if one in elsewhere]),
        ("Without a score or a measurement, so not drawn", [one for one in missing if one not in elsewhere]),
    ):
        if labels:
            st.caption(f"{words}: {listed(map(plain, labels), 8)}.")


def _open(click: Click | None, runs: pd.DataFrame) -> None:
    """Goes to the run of a clicked point; a point over several runs offers each of them."""
    if click is not None and len(click.custom) > 1:
        st.session_state["speed_open"] = click.custom[1]
    members = runs[runs["group"] == st.session_state.get("speed_open")]
    if click is not None and len(members) == 1:
        st.switch_page("pages/live.py", query_params={"job": members["id"].iloc[0]})
    if members.empty:
        if click is not None:
            st.caption("A teacher has no run of its own; click a student.")
        return
    several = members["task"].nunique() > 1
    with st.container(border=True, key="speed_seeds"):
        st.markdown(f"**{plain(members['label'].iloc[0])}** is the mean of {len(members)} runs:")
        with st.container(horizontal=True):
            for _, run in members.sort_values(["task", "seed"]).iterrows():
                task = f"{plain(task_title(run['task']))}, " if several else ""
                words = f"{task}seed {run['seed']:.0f}: {hundredfold(run['score'])}"
                st.page_link(
                    "pages/live.py", label=words, icon=":material/monitoring:", query_params={"job": run["id"]}
                )


shell.show(main)
