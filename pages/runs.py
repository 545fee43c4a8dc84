"""Runs: every run ever queued here, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis.comparison import over_fine_tuning
from kdcore.analysis.latency import latencies
from pages.parts.common import cards, empty_store, shell
from pages.parts.common.run_picker import the_store
from pages.parts.runs import actions, table


def main() -> None:
    cards.title("All runs", "Every run, newest first. Choose rows to compare, open, clone or delete them.")
    store = the_store()
    everything = store.runs(include_archived=True)
    times = latencies(store, everything).reindex(everything["id"])
    everything = everything.assign(
        gain=over_fine_tuning(everything),
        latency_ms=times["latency_ms"].to_numpy(),
        busy=times["busy"].eq(True).to_numpy(),
    )
    archived = st.session_state.get("runs_archived", False)
    runs = everything if archived else everything[~everything["archived"]]
    if runs.empty:
        empty_store.show("**No runs yet.** The one-minute demo on the start page makes three, or launch your own.")
        return
    shown = table.choose(runs)
    if shown.empty:
        cards.empty("**No run matches.** Clear the search or choose other states.")
        return
    picked = table.pick(shown)
    with cards.guarded("The run cannot be handled"):
        actions.show(store, shown[shown["id"].isin(picked)])


shell.show(main)
