"""Layer against layer, of one run or of two on one scale: the matrix, the pairs through the training, and one pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.figures import layer_pair, layers
from kdcore.figures.template import Figure
from pages.parts.common import cards, snapshot_slider
from pages.parts.common.plot import Click
from pages.parts.common.text import one_line, plain, sentence, task_title
from pages.parts.layers.teacher_picker import Course, Matrices

TABS = {"cka": "CKA", "cosine": "Direction", "mse": "Distance"}
HOW = {
    "cka": "Linear CKA of two layers' hidden states (Kornblith et al. 2019, arXiv 1905.00414): HSIC(X, Y) / "
    "√(HSIC(X, X) HSIC(Y, Y)), with sums of unbiased HSIC over minibatches of tokens (Nguyen et al. 2021, "
    "arXiv 2010.15327). It does not see rotation and scale, so layers of different width compare. It can change "
    "without a change in behaviour and is sensitive to outliers (arXiv 2210.16156).",
    "cosine": "1 − cos between the hidden states of the same token, mean over tokens. Needs equal widths.",
    "mse": "Squared difference of the hidden states, mean over tokens and dimensions, over the variance of the "
    "teacher's. Needs equal widths.",
}
"""Measure -> how its numbers are computed."""
COLUMNS = ["moment", "teacher layer", "student layer"]


@dataclass(frozen=True)
class Shown:
    """One run at one moment against one of its teachers. mark: tells its figures from those of the run beside it."""

    course: Course
    teacher: str
    moment: str
    mark: str

    @property
    def matrices(self) -> Matrices:
        return self.course.moments[self.moment][self.teacher]

    @property
    def shape(self) -> tuple[int, ...]:
        """Teacher layers + 1, student layers + 1."""
        return self.matrices["cka"].shape

    @property
    def name(self) -> str:
        return self.course.row.name

    def holds(self, student: int, teacher: int) -> bool:
        """Whether both models are that deep."""
        return teacher < self.shape[0] and student < self.shape[1]


def show(shown: Sequence[Shown]) -> None:
    """Draws the first run and, where there is one, the run beside it."""
    student, teacher = _chosen(shown[0])
    places = st.tabs(list(TABS.values()), key="measure", bind="query-params")
    for measure, place in zip(TABS, places, strict=True):
        if place.open:
            with place:
                _measure(measure, shown, student, teacher)
    _pair(shown, student, teacher)


def _measure(measure: str, shown: Sequence[Shown], student: int, teacher: int) -> None:
    """One measure: the whole matrix of each run, on one scale, and its pairs through the training."""
    top = layers.shared_top(measure, *(m for one in shown for m in one.course.every(one.teacher, measure)))
    for one, place in zip(shown, st.columns(len(shown)), strict=True):
        values = one.matrices[measure]
        with place:
            if not np.isfinite(values).any():
                cards.empty("Not defined here: teacher and student differ in width. CKA compares them all the same.")
                continue
            title = f"{one_line(one.name, 40)}, {snapshot_slider.words_of(one.moment)}" if len(shown) > 1 else ""
            cards.figure(
                partial(_marked, one, measure, student, teacher, top, title),
                f"layers_{measure}{one.mark}",
                f"{one.course.tokens[one.moment]:,} tokens of {plain(task_title(one.course.row.task))}, one seed, "
                f"padding left out. {sentence(layers.MEASURES[measure][1])} Click a cell to open that pair.",
                data=_table(one, measure),
                follows=f"{one.course.row.id} {one.teacher}",
                how=HOW[measure],
                on_click=_open,
            )
            nearest = [f"{s} ↔ {t}" for s, t, _ in layers.nearest(values, measure)]
            st.caption(f"Most alike, student ↔ teacher: {', '.join(nearest)}.")
    _course(measure, shown, student, teacher)


def _marked(one: Shown, measure: str, student: int, teacher: int, top: float, title: str) -> Figure:
    matched, dark = one.course.layer_map(one.teacher), cards.dark()
    figure = layers.matrix(one.matrices[measure], measure, matched, dark, top=top, title=title)
    return layer_pair.ring(figure, student, teacher, dark) if one.holds(student, teacher) else figure


def _table(one: Shown, measure: str) -> pd.DataFrame:
    """The matrices of all moments, one cell a row."""
    rows = [
        (word, t, s, found[one.teacher][measure][t, s])
        for word, found in one.course.moments.items()
        if one.teacher in found
        for t, s in np.ndindex(one.shape)
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, measure])


def _course(measure: str, shown: Sequence[Shown], student: int, teacher: int) -> None:
    """The matched pairs and the chosen one, over the training steps."""
    first = shown[0]
    pairs = sorted({*first.course.pairs(first.teacher).items(), (student, teacher)})
    lines = [line for one in shown for line in _lines(one, measure, pairs, len(shown) > 1)]
    if not lines:
        return
    st.subheader("Pairs through the training", anchor=False)
    marked = {} if first.moment == snapshot_slider.END else {f"step {first.moment}": int(first.moment)}
    matches = first.course.layer_map(first.teacher)
    followed = "The pairs that the method matches" if matches else "Pairs evenly spread, as the method matches none"
    dashed = "; dashed: the run beside it" if len(shown) > 1 else ""
    cost = snapshot_slider.cost(first.course.kept) if first.course.kept else ""
    cards.figure(
        lambda: layer_pair.course(lines, measure, marked, cards.dark()),
        f"layers_course_{measure}",
        f"{followed}, and the chosen one. Student ↔ teacher{dashed}. {cost}",
        data=layer_pair.points(lines, measure),
        follows=f"{first.course.row.id} {first.teacher}",
    )


def _lines(one: Shown, measure: str, pairs: Sequence[tuple[int, int]], named: bool) -> list[layer_pair.Line]:
    stem = f"{one_line(one.name, 24)}: " if named else ""
    return one.course.lines(one.teacher, measure, pairs, stem, bool(one.mark))


def _chosen(first: Shown) -> tuple[int, int]:
    """The pair that is looked at: clicked, chosen, or named by the address; at first the last layer's nearest."""
    deep, wide = first.shape
    at_end = first.course.every(first.teacher, "cka")[-1]  # the same at every moment, so that scrubbing keeps the pair
    nearest = {s: t for s, t, _ in layers.nearest(at_end, "cka")}.get(wide - 1, deep - 1)
    with st.container(horizontal=True, key="layers_pair"):
        boxes = (("Student layer", "slayer", wide, wide - 1), ("Teacher layer", "tlayer", deep, nearest))
        student, teacher = (_layer(*box) for box in boxes)
    return student, teacher


def _layer(label: str, key: str, count: int, first: int) -> int:
    if st.session_state.get(key) not in (None, *range(count)):
        st.session_state[key] = first  # of a run with more layers
    chosen = st.selectbox(
        label,
        range(count),
        index=first,
        key=key,
        bind="query-params",
        width=180,
        format_func=lambda layer: "0 (embeddings)" if layer == 0 else str(layer),
    )
    return chosen if chosen in range(count) else first


def _open(click: Click) -> None:
    if click.row is not None and click.column is not None:
        st.session_state["slayer"], st.session_state["tlayer"] = click.row, click.column


def _pair(shown: Sequence[Shown], student: int, teacher: int) -> None:
    """One pair: its numbers, and the student layer against every teacher layer."""
    first = shown[0]
    with st.container(horizontal=True, vertical_alignment="center", key="layers_pair_head"):
        st.subheader(f"Student layer {student} ↔ teacher layer {teacher}", anchor=False)
        if first.course.layer_map(first.teacher).get(student) == teacher:
            st.badge("matched by the method", color="red", icon=":material/link:")
    for one, place in zip(shown, st.columns(len(shown)), strict=True):
        with place:
            _numbers(one, student, teacher, len(shown) > 1)
    if st.button("See the attention of this student layer", key="layers_attention", icon=":material/visibility:"):
        st.switch_page("pages/attention.py", query_params={"layer": str(max(1, student)), "job": first.course.row.id})


def _numbers(one: Shown, student: int, teacher: int, named: bool) -> None:
    if named:
        st.markdown(f"**{plain(one.name, 60)}**, {snapshot_slider.words_of(one.moment)}")
    if not one.holds(student, teacher):
        cards.empty(f"This run has no such pair: its student has {one.shape[1] - 1} layers, its teacher "
                    f"{one.shape[0] - 1}.")  # fmt: skip
        return
    with st.container(horizontal=True):
        for measure, label in (("cka", "CKA"), ("cosine", "Cosine distance"), ("mse", "Squared distance")):
            values = one.matrices[measure]
            if np.isfinite(values).any():
                _metric(label, values, measure, student, teacher)
    values = one.matrices["cka"]
    cards.figure(
        lambda: layer_pair.profile(
            values, "cka", student, teacher, one.course.layer_map(one.teacher).get(student), cards.dark()
        ),
        f"layers_profile{one.mark}",
        f"Student layer {student} of {plain(one.name, 60)} against all teacher layers, "
        f"{snapshot_slider.words_of(one.moment)}.",
        data=pd.DataFrame({"teacher layer": range(len(values)), "cka": values[:, student]}),
        follows=one.course.row.id,
    )


def _metric(label: str, values: NDArray[np.float64], measure: str, student: int, teacher: int) -> None:
    place = layer_pair.place_of(values, measure, student, teacher)
    words = f"{_rank(place)} of {len(values)} teacher layers"
    value = f"{values[teacher, student]:.3f}"
    st.metric(label, value, words, delta_color="off", delta_arrow="off", border=True, width="stretch")


def _rank(place: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if 10 < place % 100 < 14 else ends.get(place % 10, "th")
    return "nearest" if place == 1 else f"{place}{ending} nearest"
