"""The strip in the side bar, and the background worker that it speaks of."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from kdcore.store import ACTIVE, UNFINISHED
from pages.parts.common.cards import guarded, problem
from pages.parts.common.read_only import Reading, read_only
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import duration, plain


def worker() -> Any:
    """The background worker of this process; in read-only mode there is none, and what is asked of it is refused."""
    return Reading(the_store()) if read_only() else _started()


@st.cache_resource(show_spinner=False, on_release=lambda held: held.shutdown())
def _started() -> Any:
    """Started once for all sessions."""
    from kdcore.runs.worker import jobs

    held = jobs()
    held.start()
    return held


EVERY = 5.0
"""Seconds between looks while something runs or waits; the strip stands still otherwise."""


def strip() -> None:
    """What is running, what waits, and why the queue does not move if it does not."""
    with guarded("The state of the queue cannot be shown"):
        st.fragment(_strip, run_every=EVERY if the_store().busy() else None)()


def _strip() -> None:
    try:
        stuck = "" if read_only() else worker().problem
    except Exception as error:
        problem(error, "The worker did not start")
        return
    with guarded("The state of the queue cannot be shown"):
        runs = the_store().runs(states=UNFINISHED)
        running = runs[runs["state"].isin(ACTIVE)]
        waiting = int((runs["state"] == "queued").sum())
        if stuck:
            st.error(f"The queue does not move: {plain(stuck, 300)}", icon=":material/error:")
        for _, row in running.iterrows():
            _running(row)
        if running.empty:
            st.caption("Idle: nothing is training.")
        if waiting:
            st.caption(f"{waiting} in the queue")


def _running(row: pd.Series) -> None:
    st.page_link(
        "pages/live.py",
        label=f"Training: {plain(row['name'], 40)}",
        icon=":material/play_circle:",
        query_params={"job": row["id"]},
    )
    share = row["progress"]
    eta = "" if pd.isna(row["eta_s"]) else f", about {duration(row['eta_s'])} left"
    st.caption(f"{0 if pd.isna(share) else share:.0%} on {plain(row['device'], 30)}{eta}")
