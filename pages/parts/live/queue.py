"""The queue under a run on Live: what waits, in which order, and how to change that."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis.queue_times import Turn, queue_turns
from kdcore.errors import UserError
from kdcore.methods.catalog import check_source, title_of
from kdcore.store import UNFINISHED
from pages.parts.common.read_only import action
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import duration, plain, sentence, task_title

LEAST_SECONDS = 4.0
"""Rare, because each refresh has a fixed cost beside that of the followed run, whose end redraws the page anyway."""


def show(period: float | None) -> None:
    """The queue, refreshed while something runs or waits.

    period: seconds between two drawings of the page, None: updates are off.
    """
    busy = the_store().busy()
    every = None if period is None else max(LEAST_SECONDS, period)
    st.fragment(_queue, run_every=every if busy else None)(busy)


def request(method: str, *args: object) -> None:
    """Calls a method of the store; a queued run may have started between the drawing and the click: then says so."""
    try:
        if method == "requeue":
            check_source(the_store().get(str(args[0])).config)
        getattr(the_store(), method)(*args)
    except UserError as error:
        st.toast(plain(f"{sentence(error.problem)} {sentence(error.remedy)}", 500))


def _queue(busy: bool) -> None:
    store = the_store()
    unfinished = store.runs(states=UNFINISHED)
    if busy and unfinished.empty:
        st.rerun()
    queued = unfinished[unfinished["state"] == "queued"].sort_values("position")
    st.subheader("Queue", anchor=False)
    if queued.empty:
        st.caption("The queue is empty.")
        return
    turns = queue_turns(store)
    last = len(queued) - 1
    for position, (_, row) in enumerate(queued.iterrows()):
        with st.container(horizontal=True, vertical_alignment="center", key=f"queue_{row['id']}"):
            st.markdown(
                f"{position + 1}. **{plain(row['name'], 60)}** · {plain(task_title(row['task']))} · "
                f"{plain(title_of(row['method']))} · seed {row['seed']:.0f} · {_when(turns[row['id']])}"
            )
            run = row["id"]
            action(
                "Up",
                key=f"up_{run}",
                icon=":material/arrow_upward:",
                disabled=position == 0,
                on_click=request,
                args=("move", run, -1),
            )
            action(
                "Down",
                key=f"down_{run}",
                icon=":material/arrow_downward:",
                disabled=position == last,
                on_click=request,
                args=("move", run, 1),
            )
            action("Cancel", key=f"cancel_{run}", icon=":material/close:", on_click=request, args=("cancel", run))


def _when(turn: Turn) -> str:
    """When a run starts and how long it takes, as far as that is known."""
    start = "start not known" if turn.starts != turn.starts else f"starts in about {duration(turn.starts)}"
    start = "starts next" if turn.starts == 0 else start
    return start if turn.takes != turn.takes else f"{start}, takes about {duration(turn.takes)}"
