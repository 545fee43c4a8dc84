"""Quality against cost as a plot with its Pareto front, the share of the teacher that is wanted, and a point's runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.analysis import pareto as fronts
from kdcore.analysis import task_average
from kdcore.analysis.cost_axes import Axis
from kdcore.figures import pareto
from pages.parts.common import cards
from pages.parts.common.keys import JOB, SPEED_GROUP, SPEED_SHARE
from pages.parts.common.plot import Click
from pages.parts.common.text import hundredfold, listed, plain, sentence, task_title
from pages.parts.speed.budget_answer import answer

HOW = (
    "**Latency**: median over repeats of one forward pass in eval mode, student and teachers in turn, so that a slow "
    "moment of the machine affects all of them; tokenisation is not counted. It depends on size and length, not on "
    "weights, so runs of one size are repeats of one measurement: their median counts, of those on a quiet machine "
    "where there are any. **Quality**: dev score of the "
    "student that `select` chose. **Parameters and operations** follow from the size; a multiply-add counts 2. A point "
    "is on the front where no other is at least as cheap and at least as good, and better in one of both. **Band and "
    f"share**: seeds are resampled {fronts.RESAMPLES} times with replacement, cost and score of a run together; the "
    "band holds the middle 80 % of the fronts, the share says how often a point was on one."
)
COLUMNS = {
    "label": "model",
    "cost_spread": "{}, std",
    "cost": "{}",
    "quality": "dev score",
    "quality_spread": "dev score, std",
    "n": "seeds",
    "share": "share on the front",
}
"""Column of the points -> its title in the table; {}: title of the axis."""


def show(measured: pd.DataFrame, runs: pd.DataFrame, axis: Axis, condition: str, x_title: str, y_title: str) -> None:
    """Args: measured: one row per model, as `cost_points` gives them. condition: what the costs were measured on."""
    points = fronts.points(measured, axis.better)
    drawn = points[np.isfinite(points["cost"]) & np.isfinite(points["quality"])]
    least = _least_quality(drawn, axis)
    if len(drawn) < 3:
        st.info("A front needs at least three points; these are shown as they are.")
    edges, dark = fronts.band(measured, axis.better), cards.dark()
    click = cards.figure(
        lambda: pareto.scatter(
            points, x_title, y_title, edges=edges, better=axis.better, least=least, si=axis.si, dark=dark
        ),
        "speed_scatter",
        f"{sentence(plain(condition, 300))} {_legend(drawn, axis, bool(len(edges)), least)}. Click a point to open its "
        "run.",
        data=points.drop(columns=["key", "kind"]).rename(columns={k: v.format(axis.title) for k, v in COLUMNS.items()}),
        follows=f"{condition} {axis.key}",
        how=HOW,
        on_click="rerun",
    )
    _open(click, runs)


def notes(measured: pd.DataFrame, runs: pd.DataFrame, on_axis: pd.DataFrame, averaged: tuple[str, ...]) -> None:
    """What the plot leaves out and what not to trust. averaged: the tasks of an average."""
    if averaged:
        st.caption(f"{sentence(task_average.describe(averaged))} Each task has the same weight, by its main metric.")
    if measured["busy"].any():
        st.warning(
            "Other work used the machine while the hollow points were timed: trust their order, not their numbers. "
            "They can be timed again below.",
            icon=":material/warning:",
        )
    drawn = measured.dropna(subset=["cost", "quality"])
    missing = sorted({*runs["label"], *measured["label"]} - set(drawn["label"]))
    elsewhere = set(on_axis.loc[on_axis["cost"].notna(), "label"])
    for reason, labels in (
        ("Measured under other conditions, so not drawn here", [label for label in missing if label in elsewhere]),
        ("Without a score or a measurement, so not drawn", [label for label in missing if label not in elsewhere]),
    ):
        if labels:
            st.caption(f"{reason}: {listed(map(plain, labels), 8)}.")


def _legend(drawn: pd.DataFrame, axis: Axis, band: bool, least: float | None) -> str:
    marks = ["Points are means over seeds, whiskers ± std" if drawn["n"].max() > 1 else "One seed each"]
    marks += ["students of one size share their times"] if axis.timed else []
    marks += ["shaded: where the front lies when seeds are resampled"] if band else []
    marks += ["grey: below the wanted share"] if least is not None and (drawn["quality"] < least).any() else []
    marks += ["faint: another is as cheap and better, or as good and cheaper", "the front is of the chosen runs only"]
    marks += ["hollow: timed on a busy machine"] if drawn["busy"].any() else []
    return "; ".join(marks)


def _least_quality(drawn: pd.DataFrame, axis: Axis) -> float | None:
    """The wanted quality, and in a sentence which student has it at least cost."""
    teachers = drawn.loc[drawn["kind"] == "teacher", "quality"]
    if teachers.empty or not teachers.max() > 0:
        st.caption("No teacher was measured here, so the share of a teacher's score is not known.")
        return None
    share = st.slider(
        "At least this share of the best teacher's score", 50.0, 100.0, 90.0, 0.5, format="%.1f %%", key=SPEED_SHARE,
        bind="query-params",
    )  # fmt: skip
    with st.container(border=True, key="speed_answer"):
        st.markdown(answer(drawn, share / 100, axis))
    return share / 100 * float(teachers.max())


def _open(click: Click | None, runs: pd.DataFrame) -> None:
    """Goes to the run of a clicked point; a point over several runs offers each of them."""
    if click is not None and len(click.custom) > 1:
        st.session_state[SPEED_GROUP] = click.custom[1]
    members = runs[runs["group"] == st.session_state.get(SPEED_GROUP)]
    if click is not None and len(members) == 1:
        st.switch_page("pages/live.py", query_params={JOB: members["id"].iloc[0]})
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
                label = f"{task}seed {run['seed']:.0f}: {hundredfold(run['score'])}"
                st.page_link("pages/live.py", label=label, icon=":material/monitoring:", query_params={JOB: run["id"]})
