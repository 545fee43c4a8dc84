"""Live: one run while it trains and after, and the queue."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.store import ACTIVE, RunRow, Store
from pages.parts.common import cards, empty_store, loss_equation, queue_runs, shell, updates
from pages.parts.common.keys import RUNS
from pages.parts.common.run_picker import active, one_run, the_store
from pages.parts.live import (
    batch,
    distances,
    header,
    log,
    loss_curves,
    matrices,
    method_logs,
    progress,
    queue,
    scores,
)
from pages.parts.live.point_cache import CachedPoints, cached_points


def main() -> None:
    place = cards.title("Run", "How far it is, what it minimises, how well it does.")
    store = the_store()
    runs = store.runs(include_archived=True)
    if runs.empty:
        empty_store.show("**Nothing is running**, and nothing has run yet. Look at the example, or train on Start.")
        return
    period = place.empty()  # left of the list box, whose end lies under Streamlit's own toolbar
    run = one_run(runs, "Run", "live_run", _first(runs), place)
    if run is None:
        return
    queue_runs.confirm("How far they are is said above; Compare sets them beside this run.")
    row = store.get(run)
    waiting = batch.waiting(store, run)
    follows = active(row) or waiting
    if follows:
        updates.choose(period)
    st.fragment(_follow, run_every=updates.period() if follows else None)(run, row.state, waiting)
    st.divider()
    queue.show(updates.period())


def _first(runs: pd.DataFrame) -> str | None:
    """The run that trains, else the last that ended well; of a person's own choice `one_run` knows."""
    training = runs[runs["state"].isin(ACTIVE)]
    if len(training):
        return str(training["id"].iloc[0])
    if set(runs["id"]) & set(st.session_state.get(RUNS, [])):
        return None
    done = runs[runs["state"] == "done"].sort_values("finished", ascending=False, kind="stable")
    return str(done["id"].iloc[0]) if len(done) else None


def _follow(run: str, state: str, waiting: bool) -> None:
    """All about the run. state, waiting: of the run, and whether others of its batch wait, when the page was drawn."""
    store = the_store()
    row = store.get(run)
    if row.state != state:  # list box, sidebar and queue show it too
        batch.follow(store, row)
        st.rerun()
    if waiting and not batch.waiting(store, run):  # nothing is left to follow
        st.rerun()
    with st.container():  # each part has one place, so that none stands there twice while another appears above it
        if updates.period() is None and (active(row) or waiting):
            updates.say_off()
        header.show(store, row)
        batch.show(store, row)
    with st.container(key="live_progress"):
        progress.show(store, row)
    with st.container():
        header.actions(store, row)
    with st.container():
        _training(store, row)
    left, right = st.columns(2)
    with left:
        scores.show(store, row)
    with right, cards.guarded("The layer distances cannot be shown"):
        distances.show(store, row)
    with cards.guarded("The log cannot be shown"):
        log.show(run)


def _training(store: Store, row: RunRow) -> None:
    """What the run minimises, and what its method reads out."""
    points = cached_points(store, row)
    if not points.quantities:
        cards.empty(_before_first_step(row))
        return
    _loss(points, row)
    with cards.guarded("What the method reads out cannot be shown"):
        matrices.show(store, row)


def _loss(points: CachedPoints, row: RunRow) -> None:
    st.subheader("Loss", anchor=False)
    with cards.guarded("The loss cannot be written as an equation"):
        loss_equation.show(points.latest())
        if not row.broken and not row.config.probes.gradient_share_every:
            st.caption("Shares of the gradient were not sampled: *Gradient shares every (steps)* on New run.")
    loss_curves.show(points, row)
    with cards.guarded("What the method logs cannot be shown"):
        method_logs.show(points, row)


def _before_first_step(row: RunRow) -> str:
    if row.state == "queued":
        return "The curves begin with the first step."
    if row.active:
        return "Getting ready: data, teachers and their outputs. The curves begin with the first step."
    return "This run ended before its first logged step."


shell.show(main)
