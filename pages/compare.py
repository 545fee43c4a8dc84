"""Compare: which method is ahead; then scores, curves, a race, settings and the report of several runs."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.analysis import comparison as comparisons
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.teacher_scores import best_teacher_score
from kdcore.store import Store
from pages.parts.common import cards, empty_store, first_choice, queue_runs, shell
from pages.parts.common.keys import RACE, TAB
from pages.parts.common.run_picker import many_runs, the_store
from pages.parts.compare import (
    ablation,
    answer,
    curves,
    fidelity,
    race,
    report,
    scope,
    scores,
    settings,
    significance,
    tasks,
)

MOST_GROUPS = 6  # more on one plot are hard to tell apart
TABS = ("Scores", "Curves", "Race", "Settings", "Report")
MEANT = {"Race": (RACE, "clock"), "Curves": ("what", "band", "x", "against", "sm", "logy", "logx")}
"""Tab -> parameters of its controls: a link that sets one of them and names no tab means this one."""


def main() -> None:
    cards.title("Compare", "Runs of one protocol side by side: what differs is the method. Colour tells the family.")
    answers = st.container()
    store = the_store()
    everything = store.runs(include_archived=True)
    if everything.empty:
        empty_store.show("**Nothing to compare yet.** It takes finished runs of two methods; the example has them.")
        return
    picked = many_runs(
        everything, "Runs", "compare_runs", first_choice.suggestion(everything),
        help="Runs that differ in nothing but the seed are drawn as one mean with a band",
    )  # fmt: skip
    if not picked:
        cards.empty("**Choose two or more runs** above, or tick rows on the page All runs.", "runs", "Go to All runs")
        return
    queue_runs.confirm()
    chosen = everything[everything["id"].isin(picked)]
    by_task = {comparison.task: comparison for comparison in comparisons.compare(store, chosen)}
    scope.unreadable(store, chosen, list(by_task.values()))
    if not by_task:
        cards.empty("None of the chosen runs can be read.")
        return
    _one_task(store, tasks.choose(list(by_task.values())), everything, answers, picked)


def _one_task(
    store: Store, comparison: Comparison, everything: pd.DataFrame, answers: DeltaGenerator, picked: list[str]
) -> None:
    """All about one task. answers: where the answer stands, above the choice of runs."""
    ids = list(comparison.runs["id"])
    if (groups := len(comparison.labels)) > MOST_GROUPS:
        st.info(f"{groups} groups on one plot are hard to tell apart; choose fewer for a clear picture.")
    evaluations = store.evaluations(ids)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        comparison = scores.baseline(comparison)
        cards.badges(comparison.task, comparisons.partial_data(store, ids))
        cards.outside(*comparison.runs["method_origin"])
    with answers, cards.guarded("The answer cannot be given"):
        answer.show(comparison, best_teacher_score(evaluations, comparison.metric))
    tab = _open_tab()
    with cards.guarded(f"{tab} cannot be shown"):
        if tab == "Scores":
            _scores(store, comparison, evaluations, everything)
        elif tab == "Settings":
            settings.show(comparison)
        elif tab == "Report":
            report.show(store, picked, str(comparison.members(comparison.baseline)["id"].iloc[0]))
        else:  # other kinds of metrics are read when their curve is asked for
            view = curves.show if tab == "Curves" else race.show
            view(store, comparison, store.metrics(ids, kinds=["loss"]), evaluations)


def _open_tab() -> str:
    """The part of the page that is open, tied to `?tab=`."""
    asked = st.query_params.get(TAB)
    if asked not in TABS:
        asked = next((tab for tab, names in MEANT.items() if any(name in st.query_params for name in names)), TABS[0])
    st.session_state["compare_tab"] = asked
    st.segmented_control(
        "Part of this page", TABS, key="compare_tab", required=True, on_change=_write_tab, label_visibility="collapsed"
    )
    return asked


def _write_tab() -> None:
    st.query_params[TAB] = st.session_state["compare_tab"]


def _scores(store: Store, comparison: Comparison, evaluations: pd.DataFrame, everything: pd.DataFrame) -> None:
    with cards.guarded("The final scores cannot be shown"):
        scores.show(store, comparison, evaluations)
        scope.show(comparison, everything)
    with cards.guarded("How closely students follow their teachers cannot be shown"):
        fidelity.show(store, comparison)
    with cards.guarded("The verdict cannot be given"):
        significance.show(comparison)
    with cards.guarded("Where the gain comes from cannot be shown"):
        ablation.show(store, comparison, everything, best_teacher_score(evaluations, comparison.metric))


shell.show(main)
