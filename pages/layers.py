"""Layers: how far each student layer is from each teacher layer, and which pairs the method matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import layers, pair
from kdcore.figures.template import Figure
from kdcore.methods import resolve
from kdcore.records import Shape
from kdcore.store import RunRow
from pages.parts import cards, entry, probed
from pages.parts.plot import Click
from pages.parts.selection import one_run, the_store
from pages.parts.text import plain, sentence, task_title

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


def main() -> None:
    cards.title("Layers", "Does a student layer hold what a teacher layer holds? Outlined: the matched pairs.")
    store = the_store()
    runs = store.runs(include_archived=True)
    runs = runs[runs["state"].isin(["done", "stopped"])]
    runs = runs.sort_values("teachers", key=lambda names: names == "", kind="stable")
    if runs.empty:
        cards.empty("**No finished run yet.** The distances are measured when a run ends.", "start", "Go to Start")
        return
    run = one_run(runs, "Run", "layers_run", prefer=("done",))
    if run is None:
        return
    row = store.get(run)
    found = probed.distances(store.probes(run).get("distances", {}))
    if not found:
        cards.empty(_why_none(row))
        return
    teacher = next(iter(found))
    if len(found) > 1:
        teacher = st.selectbox("Teacher", list(found), key="layers_teacher", format_func=str)
        teacher = teacher if teacher in found else next(iter(found))
    with cards.guarded("The matrices cannot be shown"):
        _matrices(row, teacher, found[teacher])


def _matrices(row: RunRow, teacher: str, found: Mapping[str, Any]) -> None:
    with st.container(horizontal=True):
        cards.badges(row.task, row.facts.get("partial"))
    shape = np.asarray(found["cka"], dtype=np.float64).shape
    matched = _layer_map(row, teachers=shape[0] - 1)
    st.markdown(
        f"Student of **{plain(row.name, 80)}** against teacher **{plain(teacher)}**. {layers.map_words(matched)}"
    )
    student, teacher_layer = _chosen(found, shape)
    tabs = {"cka": "CKA", "cosine": "Direction", "mse": "Distance"}
    about = f"{found.get('tokens', '?')} tokens of {task_title(row.task)}, one seed, padding left out."
    dark = cards.dark()
    for measure, place in zip(tabs, st.tabs(list(tabs.values())), strict=True):
        values = np.asarray(found.get(measure), dtype=np.float64)
        with place:
            if not np.isfinite(values).any():
                cards.empty("Not defined here: teacher and student differ in width. CKA compares them all the same.")
                continue
            table = pd.DataFrame(
                [(t, s, values[t, s]) for t in range(shape[0]) for s in range(shape[1])],
                columns=["teacher layer", "student layer", measure],
            )
            cards.figure(
                partial(_marked, values, measure, matched, student, teacher_layer, dark),
                f"layers_{measure}",
                f"{about} {sentence(layers.MEASURES[measure][1])} Click a cell to open that pair.",
                data=table,
                follows=f"{row.id} {teacher}",
                how=HOW[measure],
                on_click=_open,
            )
            nearest = [f"{s} ↔ {t}" for s, t, _ in layers.nearest(values, measure)]
            st.caption(f"Most alike, student ↔ teacher: {', '.join(nearest)}.")
    _pair(row, found, matched, student, teacher_layer, dark)


def _marked(
    values: np.ndarray, measure: str, matched: Mapping[int, int], student: int, teacher: int, dark: bool
) -> Figure:
    return pair.ring(layers.matrix(values, measure, matched, dark), student, teacher, dark)


def _chosen(found: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, int]:
    """The pair that is looked at: clicked, chosen, or named by the address; at first the last layer's nearest."""
    last = shape[1] - 1
    nearest = {s: t for s, t, _ in layers.nearest(found["cka"], "cka")}.get(last, shape[0] - 1)
    with st.container(horizontal=True, key="layers_pair"):
        boxes = (("Student layer", "slayer", shape[1], last), ("Teacher layer", "tlayer", shape[0], nearest))
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


def _pair(
    row: RunRow, found: Mapping[str, Any], matched: Mapping[int, int], student: int, teacher: int, dark: bool
) -> None:
    """One pair: its numbers, and the student layer against every teacher layer."""
    with st.container(horizontal=True, vertical_alignment="center", key="layers_pair_head"):
        st.subheader(f"Student layer {student} ↔ teacher layer {teacher}", anchor=False)
        if matched.get(student) == teacher:
            st.badge("matched by the method", color="red", icon=":material/link:")
    with st.container(horizontal=True):
        for measure, label in (("cka", "CKA"), ("cosine", "Cosine distance"), ("mse", "Squared distance")):
            values = np.asarray(found.get(measure), dtype=np.float64)
            if np.isfinite(values).any():
                place = pair.place_of(values, measure, student, teacher)
                words = f"{_rank(place)} of {len(values)} teacher layers"
                value = f"{values[teacher, student]:.3f}"
                st.metric(label, value, words, delta_color="off", delta_arrow="off", border=True, width="stretch")
    values = np.asarray(found["cka"], dtype=np.float64)
    cards.figure(
        partial(pair.profile, values, "cka", student, teacher, matched.get(student), dark),
        "layers_profile",
        f"Student layer {student} of {plain(row.name, 60)} against every teacher layer.",
        data=pd.DataFrame({"teacher layer": range(len(values)), "cka": values[:, student]}),
        follows=row.id,
    )
    if st.button("See the attention of this student layer", key="layers_attention", icon=":material/visibility:"):
        st.session_state["attention_layer"] = max(1, student)
        st.switch_page("pages/attention.py", query_params={"job": row.id})


def _rank(place: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if 10 < place % 100 < 14 else ends.get(place % 10, "th")
    return "nearest" if place == 1 else f"{place}{ending} nearest"


def _layer_map(row: RunRow, teachers: int) -> dict[int, int]:
    """The map that the method used; only depths matter to it, the student's as it was asked for."""
    method, config = resolve(row.method, row.config.options)
    student = Shape(layers=row.config.student.layers, width=64, heads=4, intermediate=128)
    return method.layer_map(config, student, replace(student, layers=teachers))


def _why_none(row: RunRow) -> str:
    if not row.broken and not row.config.teachers:
        return "This run had **no teacher**, so there is nothing to be far from. Choose a distilled run."
    if not row.broken and not row.config.probes.distances:
        return "This run was started **without the probe of layer distances**. Clone it with the probe switched on."
    return "The layer distances of this run were **not measured**; a run that was stopped early skips them."


entry.show(main)
