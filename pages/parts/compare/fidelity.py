"""How closely students follow their teachers: a table, closed until it is asked for."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis import fidelity
from kdcore.analysis.comparison import Comparison
from kdcore.store import Store
from pages.parts.common.downloads import downloads
from pages.parts.compare import scores


def show(store: Store, comparison: Comparison) -> None:
    """Nothing is read while it is closed."""
    expander = st.expander("How closely students follow their teachers", key="compare_fidelity", on_change="rerun")
    if not expander.open:
        return
    with expander:
        found = fidelity.table(store, comparison)
        if found.empty:
            st.caption("No finished run of this comparison was measured against a teacher.")
            return
        numbers = {name: st.column_config.NumberColumn(format="%.3f") for name in fidelity.COLUMNS.values()}
        st.dataframe(
            found,
            hide_index=True,
            column_config=numbers,
            key="compare_fidelity_table",
            alt="For each group and teacher, how alike their answers and the words that decide them are",
        )
        missing = "" if fidelity.COLUMNS["spearman"] in found else " None of these runs has it."
        st.caption(f"{fidelity.HOW}{missing}")
        downloads(found, "Download", "fidelity", "compare_fidelity_", scores.about(comparison))
