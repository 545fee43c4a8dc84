"""The numbers behind a figure: a table, two files, how they were computed, and the command that draws it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.common.downloads import downloads
from pages.parts.common.keys import JOB, RUNS


def numbers(
    data: pd.DataFrame | Callable[[], pd.DataFrame] | None,
    key: str,
    how: str = "",
    about: Mapping[str, Any] | None = None,
) -> None:
    """The numbers behind a figure and how they were computed, closed until they are asked for.

    about: what the JSON file says of them: metric, split, units of columns.
    """
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
            runs = _reported_runs(key)
            said = {"figure": key, "runs": runs, "how": how, **(about or {})}
            _table(data() if callable(data) else data, key, runs, said)


def _table(table: pd.DataFrame, key: str, runs: list[str], about: Mapping[str, Any]) -> None:
    st.dataframe(table, hide_index=True, key=f"{key}-table")
    downloads(table, "Download these numbers", key, f"{key}-", about)
    if runs:
        st.caption("To draw this figure without the browser, in a report with all that belongs to it:")
        st.code(f"python -m kdcore report {' '.join(runs)} -o report.html", language="bash", wrap_lines=True)


def _reported_runs(key: str) -> list[str]:
    """The runs whose report has this figure; none where no report has it."""
    page = key.partition("_")[0]
    if page in ("compare", "speed"):
        return list(st.session_state.get(RUNS, []))
    return [st.session_state[JOB]] if page in ("live", "layers") and st.session_state.get(JOB) else []
