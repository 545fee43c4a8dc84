"""What stands under the plot: how to read it, what it leaves out, and how it was computed."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis import pareto as fronts
from kdcore.analysis import task_average
from kdcore.analysis.budget import Choice
from kdcore.analysis.cost_axes import Axis
from pages.parts.common.text import listed, plain, sentence

HOW = (
    "**Latency**: median over repeats of one forward pass in eval mode, student and teachers in turn, so that a slow "
    "moment of the machine affects all of them; tokenisation is not counted. The row is the mean row of the dev split: "
    "a length in words is one text, which each model reads as tokens of its own, and operations are counted for these; "
    "a length in tokens, of older versions, was the same for all. Latency depends on size and length, not on "
    "weights, so runs of one size are repeats of one measurement: their median counts, of those on a quiet machine "
    "where there are any. What the machine did from one session to the next is taken out first: a session is scaled so "
    "that the teacher which took most turns costs in it what it usually does. **How many times as fast**: the median "
    "over the sessions in which student and teacher took turns. **Quality**: dev score of the student that `select` "
    "chose. **Memory**: the weights, and the most that torch held beside them in one pass; what every model needs, "
    "Python and torch themselves, is not counted. **Energy**: of the processors and their memory, or of the GPU, idle "
    "power included, while a model answers for a second; the median of three, in turn. **Parameters and operations** "
    "follow from the size; a multiply-add counts 2. An empty cell was not measured: time again. A point is on the "
    "front where no other is at least as cheap and at least as good, and better in one of both. **Band and "
    f"share**: seeds are resampled {fronts.RESAMPLES} times with replacement, cost and score of a run together; the "
    "band holds the middle 80% of the fronts, the share says how often a point was on one."
)


def notes(
    measured: pd.DataFrame, runs: pd.DataFrame, on_axis: pd.DataFrame, averaged: tuple[str, ...], axis: Axis
) -> None:
    """What the plot leaves out and what not to trust. averaged: the tasks of an average."""
    if averaged:
        st.caption(f"{sentence(task_average.describe(averaged))} Each task has the same weight, by its main metric.")
    if measured["busy"].any():
        st.caption(
            ":material/warning: Other work used the machine while the hollow points were timed: do not trust their "
            "numbers. They can be timed again below."
        )
    drawn = measured.dropna(subset=["cost", "quality"])
    missing = sorted({*runs["label"], *measured["label"]} - set(drawn["label"]))
    newer = axis.kind in ("memory", "energy")  # than some runs
    unknown = "Not measured, time again below" if newer else "Without a score or a measurement, so not drawn"
    elsewhere = set(on_axis.loc[on_axis["cost"].notna(), "label"])
    for reason, labels in (
        ("Measured under other conditions, so not drawn here", [label for label in missing if label in elsewhere]),
        (unknown, [label for label in missing if label not in elsewhere]),
    ):
        if labels:
            st.caption(f"{reason}: {listed(map(plain, labels), 8)}.")


def legend(drawn: pd.DataFrame, axis: Axis, band: bool, choice: Choice) -> str:
    """How the marks are read. drawn: the points with a cost and a score. band: whether one is drawn."""
    marks = ["Points are means over seeds, whiskers ± std" if drawn["n"].max() > 1 else "One seed each"]
    marks += [f"students of one size share their {'times' if axis.timed else axis.kind}"] if axis.kind != "size" else []
    marks += ["shaded: where the front lies when seeds are resampled"] if band else []
    marks += ["ringed: the answer"] if choice.student is not None else []
    outside = (drawn["quality"] < choice.least) | ~drawn["cost"].map(lambda cost: axis.meets(cost, choice.bound))
    marks += ["grey: outside what is asked for"] if outside.any() else []
    marks += ["faint: another is as cheap and better, or as good and cheaper", "the front is of the chosen runs only"]
    marks += ["hollow: timed on a busy machine"] if drawn["busy"].any() else []
    return "; ".join(marks)
