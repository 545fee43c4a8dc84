"""The numbers behind a figure: a table, a CSV file, how they were computed, and the command that draws it again."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from pages.parts.common.csv_file import csv_bytes
from pages.parts.common.keys import JOB, RUNS


def numbers(data: pd.DataFrame | Callable[[], pd.DataFrame] | None, key: str, how: str = "") -> None:
    """The numbers behind a figure and how they were computed, closed until they are asked for."""
    label = (
        "Numbers" if not how else "How was this computed?" if data is None else "Numbers, and how they were computed"
    )
    expander = st.expander(label, key=f"{key}-numbers", on_change="rerun")
    if not expander.open:
        return
    with expander:
        if how:
            st.markdown(how)
        if data is not None:
            _table(data() if callable(data) else data, key)


def _table(table: pd.DataFrame, key: str) -> None:
    st.dataframe(table, hide_index=True, key=f"{key}-table")
    st.download_button(
        "Download these numbers (CSV)",
        data=lambda: csv_bytes(table),
        file_name=f"{key}.csv",
        mime="text/csv",
        key=f"{key}-csv",
        icon=":material/download:",
    )
    if runs := _reported_runs(key):
        st.caption("To draw this figure without the browser, in a report with all that belongs to it:")
        st.code(f"python -m kdcore report {' '.join(runs)} -o report.html", language="bash", wrap_lines=True)


def _reported_runs(key: str) -> list[str]:
    """The runs whose report has this figure; none where no report has it."""
    page = key.partition("_")[0]
    if page in ("compare", "speed"):
        return list(st.session_state.get(RUNS, []))
    return [st.session_state[JOB]] if page in ("live", "layers") and st.session_state.get(JOB) else []
