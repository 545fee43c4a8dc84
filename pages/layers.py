"""Layers: how far each student layer is from each teacher layer, and which pairs the method matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import layers
from kdcore.methods import resolve
from kdcore.records import Shape
from kdcore.store import RunRow
from pages.parts import cards, entry, probed
from pages.parts.selection import one_run, the_store
from pages.parts.text import plain, sentence, task_title


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
    matched = _layer_map(row, students=shape[1] - 1, teachers=shape[0] - 1)
    st.markdown(
        f"Student of **{plain(row.name, 80)}** against teacher **{plain(teacher)}**. {layers.map_words(matched)}"
    )
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
                partial(layers.matrix, values, measure, matched, dark),
                f"layers_{measure}",
                f"{about} {sentence(layers.MEASURES[measure][1])}",
                data=table,
            )
            nearest = [f"{s} ↔ {t}" for s, t, _ in layers.nearest(values, measure)]
            st.caption(f"Most alike, student ↔ teacher: {', '.join(nearest)}.")
    st.caption("CKA can change without a change in behaviour and is sensitive to outliers (arXiv 2210.16156).")


def _layer_map(row: RunRow, students: int, teachers: int) -> dict[int, int]:
    """The map that the method used; only depths matter to it."""
    method, config = resolve(row.method, row.config.options)
    student = Shape(layers=students, width=64, heads=4, intermediate=128)
    return method.layer_map(config, student, replace(student, layers=teachers))


def _why_none(row: RunRow) -> str:
    if not row.broken and not row.config.teachers:
        return "This run had **no teacher**, so there is nothing to be far from. Choose a distilled run."
    if not row.broken and not row.config.probes.distances:
        return "This run was started **without the probe of layer distances**. Clone it with the probe switched on."
    return "The layer distances of this run were **not measured**; a run that was stopped early skips them."


entry.show(main)
