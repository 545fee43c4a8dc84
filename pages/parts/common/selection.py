"""The runs that pages look at: in the session and mirrored in the address, so that they follow from page to page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from kdcore.analysis.ablation import ALONE


def first_distilled(runs: pd.DataFrame) -> str | None:
    """The first finished run that learned from a teacher, since most pages ask what it learned; else the first.

    Of several seeds in the order of `Store.runs` that is the newest.
    """
    if runs.empty:
        return None
    order = pd.DataFrame({"alone": runs["method"] == ALONE, "unfinished": runs["state"] != "done"})
    return str(runs.loc[order.sort_values(["unfinished", "alone"], kind="stable").index[0], "id"])


def follow(runs: Sequence[str]) -> None:
    """Pages about one run leave a run that is not among those a person has just chosen."""
    if st.session_state.get("job") not in (None, *runs):
        remember(None)


def remember(run: str | None) -> None:
    """Makes this the run the pages look at."""
    if run is None:
        st.session_state.pop("job", None)
        st.query_params.pop("job", None)
        return
    st.session_state["job"] = run
    if st.query_params.get("job") != run:
        st.query_params["job"] = run


def remember_many(runs: Sequence[str]) -> None:
    """Makes these the runs that are compared."""
    st.session_state["runs"] = list(runs)
    joined = ",".join(runs)
    if st.query_params.get("runs") != joined:
        st.query_params["runs"] = joined
