"""Layer against layer, of one run or of two on one scale: the matrices, and pairs of layers through the training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.analysis.layer_distances import END
from kdcore.figures import layer_pair, layers
from kdcore.figures.template import Figure
from pages.parts.common import cards
from pages.parts.common.keys import MEASURE
from pages.parts.common.layer_lines import layer_lines
from pages.parts.common.snapshot_slider import cost_text
from pages.parts.common.text import one_line, plain, sentence, task_title
from pages.parts.layers import pair
from pages.parts.layers.run_view import RunView

TABS = {"cka": "CKA", "cls": "CKA of [CLS]", "cosine": "Direction", "mse": "Distance"}
HOW = {
    "cka": "Linear CKA of two layers' hidden states (Kornblith et al. 2019, arXiv 1905.00414): HSIC(X, Y) / "
    "√(HSIC(X, X) HSIC(Y, Y)), with sums of unbiased HSIC over minibatches of tokens (Nguyen et al. 2021, "
    "arXiv 2010.15327). It is invariant to rotation and scale, so layers of different width can be compared. It can "
    "change without a change in behaviour and is sensitive to outliers (arXiv 2210.16156).",
    "cls": "The same CKA over one state a row: that of [CLS], which the classifier reads and which some methods match "
    "alone. At the embeddings it is the same vector in every row, so nothing is defined there.",
    "cosine": "1 − cos between the hidden states of the same token, mean over tokens. Needs equal widths.",
    "mse": "Squared difference of the hidden states, mean over tokens and dimensions, over the variance of the "
    "teacher's. Needs equal widths.",
}
"""Measure -> how its numbers are computed."""
NOT_DEFINED = "Not defined here: teacher and student differ in width. CKA can compare them."
NOT_TAKEN = "Not measured in this run: it was trained before [CLS] was compared alone."
COLUMNS = ["moment", "teacher layer", "student layer"]


def show(views: Sequence[RunView]) -> None:
    """Draws the first run and, where there is one, the run beside it."""
    over, below = st.container(key="layers_measures"), st.container()
    with below:
        student, teacher = pair.choose(views[0])
        pair.show(views, student, teacher)
    with over:
        tabs = st.tabs(list(TABS.values()), key=MEASURE, bind="query-params")
        for measure, tab in zip(TABS, tabs, strict=True):
            if tab.open:
                with tab:
                    _measure(measure, views, student, teacher)
                    _trajectories(measure, views, student, teacher)


def _measure(measure: str, views: Sequence[RunView], student: int, teacher: int) -> None:
    """The whole matrix of each run, on one scale."""
    top = layers.shared_top(measure, *(m for view in views for m in view.trajectory.matrices(view.teacher, measure)))
    for view, column in zip(views, st.columns(len(views)), strict=True):
        values = view.matrices[measure]
        with column:
            if not np.isfinite(values).any():
                cards.empty(NOT_TAKEN if measure == "cls" else NOT_DEFINED)
                continue
            title = f"{one_line(view.name, 40)}, {view.moment_text}" if len(views) > 1 else ""
            cards.figure(
                partial(_matrix, view, measure, student, teacher, top, title),
                f"layers_{measure}{view.suffix}",
                f"{_sample(view, measure)} of {plain(task_title(view.trajectory.row.task))}, "
                f"one seed, padding left out. {sentence(layers.MEASURES[measure][1])} Click a cell to open that pair.",
                data=_table(view, measure),
                follows=view.zoom_key,
                how=HOW[measure],
                on_click=pair.on_click,
            )
            nearest = [f"{s} ↔ {t}" for s, t, _ in layers.nearest(values, measure)]
            st.caption(f"Most similar, student ↔ teacher: {', '.join(nearest)}.")


def _sample(view: RunView, measure: str) -> str:
    """What the numbers are taken over."""
    tokens = f"{view.trajectory.tokens[view.moment]:,} tokens"
    if measure == "cls":
        return f"[CLS] of the rows that hold these {tokens}"
    kept = view.trajectory.snapshots
    other_tokens = kept is not None and view.teacher in kept.teacher_rows
    return "The words of dev rows, each the mean of its pieces," if other_tokens else tokens


def _matrix(view: RunView, measure: str, student: int, teacher: int, top: float, title: str) -> Figure:
    dark = cards.dark()
    figure = layers.matrix(view.matrices[measure], measure, view.layer_map, dark, top=top, title=title)
    return layer_pair.ring(figure, student, teacher, dark) if view.has_pair(student, teacher) else figure


def _table(view: RunView, measure: str) -> pd.DataFrame:
    """The matrices of all moments, one row per cell."""
    rows = [
        (moment, t, s, by_teacher[view.teacher][measure][t, s])
        for moment, by_teacher in view.trajectory.moments.items()
        if view.teacher in by_teacher
        for t, s in np.ndindex(view.shape)
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, measure])


def _trajectories(measure: str, views: Sequence[RunView], student: int, teacher: int) -> None:
    """The matched pairs and the chosen one, over the training steps."""
    first = views[0]
    pairs = sorted({*first.trajectory.pairs(first.teacher), (student, teacher)})
    lines = [line for view in views for line in _lines(view, measure, pairs, len(views) > 1)]
    if not lines:
        return
    st.subheader("Pairs through the training", anchor=False)
    marks = {} if first.moment == END else {f"step {first.moment}": int(first.moment)}
    which = (
        "The pairs that the method matches"
        if first.trajectory.matches_pairs(first.teacher)
        else "Evenly spread pairs, as the method matches none"
    )
    dashed = "; dashed: the run beside it" if len(views) > 1 else ""
    cost = cost_text(first.trajectory.snapshots) if first.trajectory.snapshots else ""
    cards.figure(
        lambda: layer_pair.course(lines, measure, marks, cards.dark()),
        f"layers_course_{measure}",
        f"{which}, and the chosen one. Student ↔ teacher{dashed}. {cost}",
        data=layer_pair.points(lines, measure),
        follows=first.zoom_key,
    )


def _lines(view: RunView, measure: str, pairs: Sequence[tuple[int, int]], named: bool) -> list[layer_pair.Line]:
    prefix = f"{one_line(view.name, 24)}: " if named else ""
    return layer_lines(view.trajectory, view.teacher, measure, pairs, prefix, bool(view.suffix))
