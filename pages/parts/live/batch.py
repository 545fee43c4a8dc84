"""Runs that were queued together (`?runs=` on this page): how far they are, and where their comparison is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.store import ACTIVE, UNFINISHED, RunRow, Store
from pages.parts.common.keys import RUNS
from pages.parts.common.run_picker import MOST_RUNS
from pages.parts.common.selection import remember
from pages.parts.common.text import plain


def runs_of(store: Store, run: str) -> pd.DataFrame:
    """The runs that the address names together with this one, in its order; none where it names fewer than two."""
    ids = st.query_params.get(RUNS, "").split(",")[:MOST_RUNS]
    runs = store.runs(include_archived=True).set_index("id", drop=False)
    known = [one for one in ids if one in runs.index]
    return runs.loc[known] if run in known and len(known) > 1 else runs[:0]


def waiting(store: Store, run: str) -> bool:
    """Whether any of the runs that the address names together with this one waits or is under way."""
    together = runs_of(store, run)
    return bool(together["state"].isin(UNFINISHED).any())


def show(store: Store, row: RunRow) -> None:
    """One line: how many of them are done; at the end the way to their comparison."""
    together = runs_of(store, row.id)
    if together.empty:
        return
    count, left = len(together), int(together["state"].isin(UNFINISHED).sum())
    done = int((together["state"] == "done").sum())
    with st.container(horizontal=True, vertical_alignment="center", key="live_batch"):
        if left:
            st.markdown(f":material/stacks: **{done} of {count} done.** {_next(together, row.id)}", width="stretch")
            return
        lost = count - done
        rest = f" {lost} ended without a score." if lost else ""
        st.success(f"**{done} of {count} done.**{rest}", icon=":material/task_alt:")
        st.page_link(
            "pages/compare.py",
            label="See which is better",
            icon=":material/stacked_line_chart:",
            query_params={RUNS: ",".join(together["id"])},
        )


def follow(store: Store, row: RunRow) -> bool:
    """Goes from a run that has just ended to the next of its batch; whether there is one."""
    together = runs_of(store, row.id)
    if together.empty or row.state in UNFINISHED:
        return False
    for states in (ACTIVE, UNFINISHED):
        waiting = together[together["state"].isin(states)]
        if len(waiting):
            remember(str(waiting["id"].iloc[0]))
            return True
    st.toast(f"{int((together['state'] == 'done').sum())} of {len(together)} done.")
    return False


def _next(together: pd.DataFrame, run: str) -> str:
    others = together[together["state"].isin(UNFINISHED) & (together["id"] != run)]
    return f"Next: {plain(others['name'].iloc[0], 60)}." if len(others) else "This is the last one."
