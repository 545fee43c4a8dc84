"""What the sidebar says of the queue, and the background worker behind it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from kdcore.runs.capability import has_own_worker
from kdcore.store import ACTIVE, UNFINISHED
from pages.parts.common import updates
from pages.parts.common.cards import guarded, problem
from pages.parts.common.keys import JOB
from pages.parts.common.read_only import ReadOnlyProxy, read_only
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import place, plain, time_left

REFRESH_SECONDS = 5.0
"""At least, while something runs or waits; otherwise nothing is polled."""


def worker() -> Any:
    """The background worker of this process; in read-only mode there is none, and every request to it is refused."""
    return ReadOnlyProxy(the_store()) if read_only() else _start_worker()


@st.cache_resource(show_spinner=False, on_release=lambda jobs: jobs.shutdown())
def _start_worker() -> Any:
    """One for all sessions."""
    from kdcore.runs.worker import jobs

    started = jobs()
    started.start()
    return started


def show() -> None:
    """What is running, what is waiting, and why the queue is stuck if it is."""
    with guarded("The state of the queue cannot be shown"):
        st.fragment(_queue, run_every=_period() if the_store().busy() else None)()


def _period() -> float | None:
    """Seconds; None where a person has set live updates off."""
    chosen = updates.period()
    return None if chosen is None else max(chosen, REFRESH_SECONDS)


def _queue() -> None:
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
            st.error(f"The queue is stuck: {plain(stuck, 300)}", icon=":material/error:")
        for _, row in running.iterrows():
            _running(row)
        if running.empty:
            st.caption("Idle: nothing is training.")
        if waiting:
            st.caption(f"{waiting} in the queue" + ("" if has_own_worker() else "; trained by `kdcore work`"))


def _running(row: pd.Series) -> None:
    st.page_link(
        "pages/live.py",
        label=f"Training: {plain(row['name'], 40)}",
        icon=":material/play_circle:",
        query_params={JOB: row["id"]},
    )
    share = row["progress"]
    left = time_left(row["eta_s"])
    if pd.isna(share) or not share:
        st.caption("Getting ready")
        return
    where = plain(place(row["device"], row["node"]), 50)
    st.caption(f"{share:.0%} on {where}{f', {left}' if left else ''}")
