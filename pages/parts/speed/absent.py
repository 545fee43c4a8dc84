"""A cost that none of the chosen runs has: why, and what measures it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis.cost_axes import Axis
from kdcore.analysis.cost_table import energy_notes
from kdcore.store import Store
from pages.parts.common.text import plain
from pages.parts.speed import remeasure

REASONS = {
    "time": "None of the chosen runs has a number for **{}**: they were started without the latency probe, or "
    "imported.",
    "memory": "**{}: not measured, time again.** The chosen runs are older than this measurement.",
    "energy": "**{}: not measured, time again.** Energy is counted on a click only, not when a run ends.",
    "size": "None of the chosen runs has a number for **{}**: they do not say it, and their models are not on this "
    "disk.",
}
"""Kind of cost -> why it is not known."""


def show(store: Store, runs: pd.DataFrame, costs: pd.DataFrame, axis: Axis) -> None:
    """Args: runs: the chosen ones. costs: their `cost_table`."""
    notes = energy_notes(store, list(runs["id"])) if axis.kind == "energy" else {}
    with st.container(border=True, key="speed_absent"):
        if notes:
            for hardware, note in notes.items():
                st.markdown(f"**{axis.title}**, {plain(hardware)}: {plain(note, 300)}.")
        else:
            st.markdown(f"{REASONS[axis.kind].format(axis.title)} Or choose another cost.")
        if axis.kind != "size":
            remeasure.time_again(store, runs, costs, "speed_again_absent")
