"""How much of the teacher's layers the student's have, pair by pair."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis.layer_distances import END, LayerTrajectory, read_trajectory
from kdcore.analysis.lost import Loss
from kdcore.store import Store

CKA = {"CKA of tokens": "cka", "CKA of [CLS]": "cls"}
"""Column -> measure."""


def show(store: Store, loss: Loss) -> None:
    st.subheader("Layer by layer", anchor=False)
    trajectory = read_trajectory(store, loss.row.id)
    if loss.teacher not in trajectory.teachers() or END not in trajectory.moments_of(loss.teacher):
        st.caption("The layers of this run were not compared at its end: its probe of layer distances was off.")
        return
    matched = trajectory.matches_pairs(loss.teacher)
    st.dataframe(
        _table(trajectory, loss.teacher), hide_index=True, key="lost_layers",
        alt="Similarity of student and teacher layers, pair by pair",
        column_config={name: st.column_config.NumberColumn(format="%.2f") for name in CKA},
    )  # fmt: skip
    pairs = (
        "The pairs that the method matches." if matched else "The method matches no single layers: evenly spread pairs."
    )
    st.caption(f"{pairs} CKA: 1 is the same up to rotation and scale, 0 unrelated; one seed.")
    st.page_link("pages/layers.py", label="All pairs on Layers", query_params={"job": loss.row.id})


def _table(trajectory: LayerTrajectory, teacher: str) -> pd.DataFrame:
    matrices = trajectory.moments[END][teacher]
    return pd.DataFrame(
        [
            {
                "student layer": student, "teacher layer": layer,
                **{column: float(matrices[measure][layer, student]) for column, measure in CKA.items()},
            }
            for student, layer in trajectory.pairs(teacher)
        ]
    )  # fmt: skip
