"""The queue under a run on Live: what waits, in which order, and how to change that."""

from __future__ import annotations

import streamlit as st

from kdcore.errors import UserError
from kdcore.store import ACTIVE
from pages.parts.common.read_only import action
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import ago, plain, task_title

EVERY = 4.0
"""Seconds between looks: a second clock on the page costs a look's fixed price again, and the end of the run that is
watched redraws all of it."""


def queue() -> None:
    """The queue, looked at again and again while something runs or waits."""
    busy = the_store().busy()
    st.fragment(_queue, run_every=EVERY if busy else None)(busy)


def change(action: str, *args: object) -> None:
    """Asks the store; a queued run may have started between the drawing and the click: then say so."""
    try:
        getattr(the_store(), action)(*args)
    except UserError as error:
        st.toast(plain(error.problem))


def _queue(busy: bool) -> None:
    store = the_store()
    under_way = store.runs(states=["queued", *ACTIVE])
    if busy and under_way.empty:
        st.rerun()
    queued = under_way[under_way["state"] == "queued"].sort_values("position")
    st.subheader("Queue", anchor=False)
    if queued.empty:
        st.caption("The queue is empty.")
        return
    last = len(queued) - 1
    for place, (_, row) in enumerate(queued.iterrows()):
        with st.container(horizontal=True, vertical_alignment="center", key=f"queue_{row['id']}"):
            st.markdown(
                f"{place + 1}. **{plain(row['name'], 60)}** · {plain(task_title(row['task']))} · "
                f"{plain(row['method'])} · waiting since {ago(row['created'])}"
            )
            run = row["id"]
            action(
                "Up",
                key=f"up_{run}",
                icon=":material/arrow_upward:",
                disabled=place == 0,
                on_click=change,
                args=("move", run, -1),
            )
            action(
                "Down",
                key=f"down_{run}",
                icon=":material/arrow_downward:",
                disabled=place == last,
                on_click=change,
                args=("move", run, 1),
            )
            action("Cancel", key=f"cancel_{run}", icon=":material/close:", on_click=change, args=("cancel", run))
