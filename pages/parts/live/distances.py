"""How far the student's layers are from the teacher layers they are matched with, at the snapshots so far."""

from __future__ import annotations

import streamlit as st

from kdcore.figures import layer_pair
from kdcore.paths import run_dir
from kdcore.store import RunRow, Store
from pages.parts.common import cards
from pages.parts.common.plot_data import plot_data
from pages.parts.common.text import plain
from pages.parts.live.figure_cache import reuse
from pages.parts.live.point_cache import life

ENOUGH_FILES = 3  # the teacher's and two of the student's: a line needs two points
MEASURES = ("mse", "cka")  # the second where widths differ, so that the first is not defined


def show(store: Store, row: RunRow) -> None:
    files = len(list((run_dir(row.id) / "probes").glob("snapshots/*.safetensors")))
    if files < ENOUGH_FILES:
        return
    # they read tensors, which takes seconds to import
    from kdcore.analysis.layer_distances import read_trajectory
    from pages.parts.common.layer_lines import layer_lines

    trajectory = reuse("live_course", (life(row), files), lambda: read_trajectory(store, row.id))
    teacher = next(iter(trajectory.teachers()), None)
    if teacher is None:
        return
    measure = next(measure for measure in MEASURES if trajectory.applies(teacher, measure))
    lines = layer_lines(trajectory, teacher, measure, trajectory.pairs(teacher))
    if not lines:
        return
    st.subheader("Layer similarity" if measure == "cka" else "Layer distances", anchor=False)
    pairs = "the pairs that the method matches" if trajectory.matches_pairs(teacher) else "evenly spread pairs"
    dark = cards.dark()
    cards.figure(
        lambda: reuse(
            "live_distances",
            (life(row), files, dark),
            lambda: plot_data(layer_pair.course(lines, measure, {}, dark)),
        ),
        "live_distances",
        f"Student ↔ teacher {plain(teacher)}, {pairs}, at the snapshots so far. All layers: page Layers.",
        data=lambda: layer_pair.points(lines, measure),
        follows=row.id,
        how=f"Over {trajectory.tokens[trajectory.moments_of(teacher)[0]]:,} tokens of dev rows, the same ones in every "
        "snapshot.",
    )
