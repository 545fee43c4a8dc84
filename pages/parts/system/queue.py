"""Runs that train or wait, with their workers."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.store import UNFINISHED, Store
from pages.parts.common import cards
from pages.parts.common.text import ago, duration, one_line, place, task_title


def show(store: Store) -> None:
    st.subheader("Queue and workers", anchor=False)
    runs = store.runs(states=UNFINISHED, include_archived=True)
    if runs.empty:
        cards.empty("**Nothing is training and nothing is waiting.**", "launch", "Go to New run")
        return
    runs = runs.sort_values(
        ["state", "position"], key=lambda column: column == "queued" if column.name == "state" else column
    )
    table = pd.DataFrame(
        {
            "run": runs["name"].map(lambda name: one_line(name, 60)),
            "state": runs["state"],
            "task": runs["task"].map(task_title),
            "progress": runs["progress"],
            "device": [
                place(one_line(device), one_line(node))
                for device, node in zip(runs["device"], runs["node"], strict=True)
            ],
            "worker": [one_line(name) if isinstance(name, str) else "–" for name in runs["worker"]],
            "lease": [_lease(until) for until in runs["lease_until"]],
            "queued": runs["created"].map(ago),
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        key="system_queue",
        alt="Runs that train or wait, with their workers",
        column_config={
            "progress": st.column_config.ProgressColumn("progress", format="percent", min_value=0, max_value=1)
        },
    )
    st.caption(
        "A worker renews its lease every few seconds. The lease of a worker that died runs out: its run can be resumed."
    )


def _lease(until: pd.Timestamp) -> str:
    if pd.isna(until):
        return "–"
    left = (until - pd.Timestamp.now("UTC")).total_seconds()
    return f"valid for {duration(left)}" if left > 0 else "expired"
