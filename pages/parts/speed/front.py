"""Quality against cost: what is asked and answered, the plot with its Pareto front, and a point's runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.analysis import budget
from kdcore.analysis import pareto as fronts
from kdcore.analysis.budget import Choice
from kdcore.analysis.cost_axes import Axis
from kdcore.figures import pareto
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.keys import JOB, SPEED_GROUP
from pages.parts.common.plot import Click
from pages.parts.common.text import hundredfold, plain, sentence, task_title
from pages.parts.speed import answer_box, plot_words
from pages.parts.speed.measured import BESIDE, Measured

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


@dataclass(frozen=True)
class Question:
    """What is asked: the cheapest student on an axis with a share of the teacher's score within a cost (None: any)."""

    axis: Axis
    share: float
    bound: float | None


def decide(store: Store, seen: Measured, runs: pd.DataFrame, table: pd.DataFrame, question: Question) -> Choice:
    """Answers the question in a box of its own."""
    axis = question.axis
    points = _drawn(fronts.points(seen.points, axis.better))
    choice = budget.choose(points, question.share, question.bound, axis, seen.ratio)
    answer_box.show(store, choice, question.share, axis, runs, table)
    return choice


def show(
    seen: Measured, runs: pd.DataFrame, axis: Axis, choice: Choice, y_title: str, guess: float | None = None
) -> None:
    """The plot; the chosen student is its most visible mark. guess: score of a blind guess, a fraction."""
    points = fronts.points(seen.points, axis.better)
    drawn = _drawn(points)
    if len(drawn) < 3:
        st.caption("A front needs at least three points; these are shown as they are.")
    edges, dark = fronts.band(seen.points, axis.better), cards.dark()
    click = cards.figure(
        lambda: pareto.scatter(
            points, axis.words.format(length=seen.length), y_title, edges=edges, better=axis.better,
            least=choice.least if np.isfinite(choice.least) else None, bound=choice.bound,
            guess=None if guess is None else 100 * guess,
            chosen="" if choice.student is None else str(choice.student["label"]), si=axis.si, dark=dark,
        ),
        "speed_scatter",
        f"{sentence(plain(seen.condition, 300))} {plot_words.legend(drawn, axis, bool(len(edges)), choice)}. Click a "
        "point to open its run.",
        data=_numbers(seen, points, axis),
        follows=f"{seen.condition} {axis.key}",
        how=plot_words.HOW,
        on_click="rerun",
    )  # fmt: skip
    _open(click, runs)


def _numbers(seen: Measured, points: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """The points with what else the models cost."""
    others = seen.beside.drop(columns=[axis.key], errors="ignore").rename(columns=BESIDE)
    table = points.drop(columns=["key", "kind"]).join(others, on="label")
    return table.rename(columns={name: title.format(axis.title) for name, title in COLUMNS.items()})


def _drawn(points: pd.DataFrame) -> pd.DataFrame:
    known: pd.DataFrame = points[np.isfinite(points["cost"]) & np.isfinite(points["quality"])]
    return known


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
