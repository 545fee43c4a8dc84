"""Layers: how far each student layer is from each teacher layer, through the training, and what the method matched."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from kdcore.analysis.layer_distances import LayerTrajectory, read_trajectory
from kdcore.figures.layers import describe_map
from kdcore.store import RunRow, Store
from pages.parts.common import cards, empty_store, run_header, shell, snapshot_slider
from pages.parts.common.keys import BESIDE
from pages.parts.common.run_labels import run_label, unique_labels
from pages.parts.common.run_picker import one_run, the_store, unknown
from pages.parts.common.teacher_picker import one_teacher
from pages.parts.common.text import plain
from pages.parts.layers import matrices
from pages.parts.layers.run_view import RunView


def main() -> None:
    place = cards.title("Layers", "Does a student layer hold what a teacher layer holds? Outlined: the matched pairs.")
    store = the_store()
    everything = store.runs(include_archived=True)
    runs = everything[everything["state"].isin(["done", "stopped"])]
    if runs.empty:
        empty_store.show("**No finished run yet.** Layers are compared while a run trains and when it ends.")
        return
    run = one_run(runs, "Run", "layers_run", place=place)
    if run is None:
        return
    run_header.show(store, store.get(run), everything)
    with cards.guarded("The measurements of this run cannot be read"):
        trajectory = read_trajectory(store, run)
        if not trajectory.moments:
            cards.empty(_why_none(trajectory.row))
            return
        _show(store, runs, trajectory)


def _show(store: Store, runs: pd.DataFrame, trajectory: LayerTrajectory) -> None:
    left, right = st.columns(2)
    with left:
        teacher = one_teacher(trajectory.teachers())
        other = _second_run(store, runs, trajectory)
    with right:
        moment = snapshot_slider.slider(trajectory.moments_of(teacher))
    views = [RunView(trajectory, teacher, moment)]
    if other is not None:
        others_teacher = teacher if teacher in other.teachers() else other.teachers()[0]
        others_moment = other.matching_moment(trajectory, moment, others_teacher)
        views.append(RunView(other, others_teacher, others_moment, "_beside"))
    _describe(views)
    matrices.show(views)


def _second_run(store: Store, runs: pd.DataFrame, trajectory: LayerTrajectory) -> LayerTrajectory | None:
    """Another run of the same task to compare with, tied to `?beside=`."""
    row = trajectory.row
    others = runs[(runs["task"] == row.task) & (runs["id"] != row.id) & (runs["teachers"] != "")]
    wanted = st.query_params.get(BESIDE)
    if wanted is not None and wanted not in set(runs["id"]):
        unknown([wanted])
    if wanted not in set(others["id"]):
        st.query_params.pop(BESIDE, None)
        wanted = None
    labels = unique_labels({other["id"]: run_label(other) for _, other in others.iterrows()})
    st.session_state["layers_beside"] = wanted
    run = st.selectbox(
        "Compare with",
        list(labels),
        index=None,
        key="layers_beside",
        format_func=lambda run: labels.get(run, run),
        placeholder="No other run",
        help="Another run of this task, on the same scale, as far in its own training",
        on_change=_write_second_run,
        disabled=not labels,
    )
    if run is None:
        return None
    other = read_trajectory(store, run)
    if not other.moments:
        st.info(f"The layers of {plain(other.row.name, 80)} were not measured, so it is not shown.")
        return None
    return other


def _write_second_run() -> None:
    run = st.session_state["layers_beside"]
    if run is None:
        st.query_params.pop(BESIDE, None)
    else:
        st.query_params[BESIDE] = run


def _describe(views: Sequence[RunView]) -> None:
    first = views[0].trajectory
    for view in views:
        st.markdown(
            f"Student of **{plain(view.name, 80)}** at **{view.moment_text}**, against teacher "
            f"**{plain(view.teacher)}**. {describe_map(view.layer_map)}"
        )
    if first.snapshots is None:
        st.caption(
            "This run has no snapshots of its training: they are taken where the probe of layer distances is on."
        )


def _why_none(row: RunRow) -> str:
    if not row.broken and not row.config.teachers:
        return "This run had **no teacher**, so there are no layer distances. Choose a distilled run."
    if not row.broken and not row.config.probes.distances:
        return "This run was started **without the probe of layer distances**. Clone it with the probe switched on."
    return "The layer distances of this run were **not measured**: it ended before its first snapshot."


shell.show(main)
