"""The strip in the side bar: what is running, what waits, and on which device."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from kdcore.store import ACTIVE
from pages.parts.cards import guarded
from pages.parts.selection import the_store
from pages.parts.text import duration, plain


def strip(worker: Any) -> None:
    """Draws the strip. worker: what `kdcore.jobs.jobs()` gave, or the error that it raised."""
    with guarded("The state of the queue cannot be shown"):
        runs = the_store().runs(states=[*ACTIVE, "queued"])
        running = runs[runs["state"].isin(ACTIVE)]
        waiting = int((runs["state"] == "queued").sum())
        if isinstance(worker, Exception):
            st.error(f"The worker did not start: {plain(worker, 200)}", icon=":material/error:")
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
    where = f" on {plain(row['device'], 30)}" if row["device"] else ""
    st.caption(f"{0 if pd.isna(share) else share:.0%}{where}{eta}")
