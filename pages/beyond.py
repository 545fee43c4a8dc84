"""Beyond compression: score and calibration of several methods as their data get worse, a line a method."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.analysis import beyond as curves_over
from kdcore.analysis import comparison as comparisons
from kdcore.analysis.beyond import Curves
from kdcore.analysis.comparison import Comparison
from kdcore.store import Store
from pages.parts.beyond import answer, lines, missing, question
from pages.parts.common import cards, empty_store, first_choice, queue_runs, shell
from pages.parts.common.run_picker import many_runs, the_store


def main() -> None:
    cards.title("Beyond compression", "Which method holds when labels are wrong or rare, or sentences are damaged.")
    answers = st.container()
    store = the_store()
    everything = store.runs(include_archived=True)
    if everything[everything["state"] == "done"].empty:
        empty_store.show("**No finished run yet.** The lines are drawn from finished runs of one or more methods.")
        return
    picked = many_runs(
        everything, "Runs", "beyond_runs", first_choice.suggestion(everything),
        help="One run of each method is enough: its other levels and seeds are found in the store",
    )  # fmt: skip
    queue_runs.confirm("The lines grow when they are done.")
    by_task = comparisons.compare(store, everything[everything["id"].isin(picked)])
    by_task = [comparison for comparison in by_task if not comparison.finished.empty]
    if not by_task:
        cards.empty("**Choose finished runs** above, or tick rows on the page All runs.", "runs", "Go to All runs")
        return
    _one_task(store, question.task(by_task), everything, answers)


def _one_task(store: Store, comparison: Comparison, everything: pd.DataFrame, answers: DeltaGenerator) -> None:
    asked = question.ask(comparison)
    with cards.guarded("The lines cannot be drawn"):
        with st.spinner("Reading the runs"):
            curves = _curves(store, comparison, everything, asked)
        with answers:
            answer.show(comparison, curves, asked)
        if not curves.rows.empty:
            lines.show(comparison, curves, asked)
    with cards.guarded("What is missing cannot be said"):
        missing.show(store, comparison, curves, asked)


def _curves(store: Store, comparison: Comparison, everything: pd.DataFrame, asked: question.Question) -> Curves:
    if asked.of_training:
        return curves_over.of_training(store, everything, comparison, asked.damage, asked.clean_teacher)
    return curves_over.of_sentences(store, comparison, asked.damage)


shell.show(main)
