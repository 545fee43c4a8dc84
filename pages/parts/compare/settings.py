"""In which settings the groups of a comparison differ."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis import groups
from kdcore.analysis.comparison import Comparison
from kdcore.identity import essential


def show(comparison: Comparison) -> None:
    """One column per group: its runs differ in nothing but the seed and what does not matter to the student."""
    every = st.toggle("Show equal settings too", key="compare_every")
    columns = {label: essential(comparison.settings_of(group)) for group, label in comparison.labels.items()}
    table = groups.differences(columns, every)
    if table.empty:
        st.caption("The chosen runs differ in nothing but their seeds.")
        return
    with st.container(key="compare_settings"):
        st.dataframe(table, alt="Settings in which the chosen groups differ")
