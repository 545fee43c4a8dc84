"""Live: one run while it trains and after, and the queue."""

from __future__ import annotations

import streamlit as st

from kdcore.store import ACTIVE, RunRow
from pages.parts.common import cards, loss_equation, shell
from pages.parts.common.run_picker import active, one_run, the_store
from pages.parts.live import distances, header, log, loss_curves, method_logs, progress, queue, scores
from pages.parts.live.point_cache import cached_points

REFRESH_SECONDS = 1.0


def main() -> None:
    cards.title("Live", "One run: how far it is, what it minimises, how well it does.")
    store = the_store()
    runs = store.runs(include_archived=True)
    if runs.empty:
        cards.empty(
            "**Nothing is running**, and nothing has run yet. Start the one-minute demo, or launch a run.",
            "start",
            "Go to Start",
        )
        return
    run = one_run(runs, "Run", "live_run", prefer=(*reversed(ACTIVE), "queued", "done"))
    if run is None:
        return
    row = store.get(run)
    st.fragment(_follow, run_every=REFRESH_SECONDS if _follows(row) else None)(run, row.state)
    st.divider()
    queue.show()


def _follows(row: RunRow) -> bool:
    """Only an unfinished run is polled, and only while the switch is on."""
    container = st.container()  # kept when the switch goes, or what is below it would be drawn twice
    return active(row) and container.toggle(
        "Follow while it trains", value=True, key="live_follow", persist_state="session"
    )


def _follow(run: str, state: str) -> None:
    store = the_store()
    row = store.get(run)
    if row.state != state:  # list box, sidebar and queue show it too
        st.rerun()
    header.show(store, row)
    with st.container(key="live_progress"):
        progress.show(store, row)
    points = cached_points(store, row)
    if not points.quantities:
        cards.empty(_before_first_step(row))
    else:
        st.subheader("Loss", anchor=False)
        with cards.guarded("The loss cannot be written as an equation"):
            loss_equation.show(points.latest())
            if not row.broken and not row.config.probes.gradient_share_every:
                st.caption("Gradient shares are not sampled in this run (setting *probes.gradient_share_every*).")
        loss_curves.show(points, row)
        with cards.guarded("What the method logs cannot be shown"):
            method_logs.show(points, row)
    scores.show(store, row)
    with cards.guarded("The layer distances cannot be shown"):
        distances.show(store, row)
    with cards.guarded("The log cannot be shown"):
        log.show(run)


def _before_first_step(row: RunRow) -> str:
    if row.state == "queued":
        return "The curves begin with the first step."
    if row.active:
        return "Getting ready: data, teachers and their outputs. The curves begin with the first step."
    return "This run ended before its first logged step."


shell.show(main)
