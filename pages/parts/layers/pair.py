"""One pair of layers: its numbers, and the student layer against every teacher layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.figures import layer_pair, layers
from pages.parts.common import cards
from pages.parts.common.keys import JOB, LAYER, PAIR_STUDENT, PAIR_TEACHER
from pages.parts.common.plot import Click
from pages.parts.common.text import plain
from pages.parts.layers.run_view import RunView


def choose(view: RunView) -> tuple[int, int]:
    """Student and teacher layer: clicked, chosen, or named by the URL; at first the last layer's nearest."""
    teacher_depth, student_depth = view.shape
    # of the end, whatever the moment, so that moving the slider keeps the pair
    final = view.trajectory.matrices(view.teacher, "cka")[-1]
    nearest = {s: t for s, t, _ in layers.nearest(final, "cka")}.get(student_depth - 1, teacher_depth - 1)
    with st.container(horizontal=True, key="layers_pair"):
        student = _layer("Student layer", PAIR_STUDENT, student_depth, student_depth - 1)
        teacher = _layer("Teacher layer", PAIR_TEACHER, teacher_depth, nearest)
    return student, teacher


def on_click(click: Click) -> None:
    """Chooses the pair of the clicked cell."""
    if click.row is not None and click.column is not None:
        st.session_state[PAIR_STUDENT], st.session_state[PAIR_TEACHER] = click.row, click.column


def show(views: Sequence[RunView], student: int, teacher: int) -> None:
    first = views[0]
    with st.container(horizontal=True, vertical_alignment="center", key="layers_pair_head"):
        st.subheader(f"Student layer {student} ↔ teacher layer {teacher}", anchor=False)
        if teacher in first.layer_map.get(student, ()):
            st.badge("matched by the method", color="red", icon=":material/link:")
    for view, column in zip(views, st.columns(len(views)), strict=True):
        with column:
            _pair(view, student, teacher, len(views) > 1)
    if st.button("See the attention of this student layer", key="layers_attention", icon=":material/visibility:"):
        query = {LAYER: str(max(1, student)), JOB: first.trajectory.row.id}
        st.switch_page("pages/attention.py", query_params=query)


def _layer(label: str, key: str, count: int, default: int) -> int:
    if st.session_state.get(key) not in (None, *range(count)):
        st.session_state[key] = default  # of a run with more layers
    layer = st.selectbox(
        label,
        range(count),
        index=default,
        key=key,
        bind="query-params",
        width=180,
        format_func=lambda number: "0 (embeddings)" if number == 0 else str(number),
    )
    return layer if layer in range(count) else default


def _pair(view: RunView, student: int, teacher: int, named: bool) -> None:
    if named:
        st.markdown(f"**{plain(view.name, 60)}**, {view.moment_text}")
    if not view.has_pair(student, teacher):
        cards.empty(f"This run has no such pair: its student has {view.shape[1] - 1} layers, its teacher "
                    f"{view.shape[0] - 1}.")  # fmt: skip
        return
    with st.container(horizontal=True):
        for measure, label in (
            ("cka", "CKA"),
            ("cls", "CKA of [CLS]"),
            ("cosine", "Cosine distance"),
            ("mse", "Squared distance"),
        ):
            if np.isfinite(view.matrices[measure][teacher, student]):
                _metric(label, view.matrices[measure], measure, student, teacher)
    values = view.matrices["cka"]
    cards.figure(
        lambda: layer_pair.profile(values, "cka", student, teacher, view.layer_map.get(student, ()), cards.dark()),
        f"layers_profile{view.suffix}",
        f"Student layer {student} of {plain(view.name, 60)} against all teacher layers, {view.moment_text}.",
        data=pd.DataFrame({"teacher layer": range(len(values)), "cka": values[:, student]}),
        follows=view.trajectory.row.id,
    )


def _metric(label: str, values: NDArray[np.float64], measure: str, student: int, teacher: int) -> None:
    rank = layer_pair.place_of(values, measure, student, teacher)
    text = f"{_rank(rank)} of {len(values)} teacher layers"
    value = f"{values[teacher, student]:.3f}"
    st.metric(label, value, text, delta_color="off", delta_arrow="off", border=True, width="stretch")


def _rank(rank: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if 10 < rank % 100 < 14 else endings.get(rank % 10, "th")
    return "nearest" if rank == 1 else f"{rank}{ending} nearest"
