"""What was lost: a student against its teacher, over its sizes, row by row in numbers, and what predicts a lost row."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis.lost import Loss, read_loss
from kdcore.store import Store
from pages.parts.common import cards, empty_store, queue_runs, run_header, shell
from pages.parts.common.run_picker import one_run, the_store
from pages.parts.lost import answer, layers, probes, rows, sizes


def main() -> None:
    place = cards.title("What was lost", "What the student no longer has of its teacher, and what training alone has.")
    store = the_store()
    everything = store.runs(include_archived=True)
    runs = everything[everything["state"] == "done"]
    if runs.empty:
        empty_store.show("**No finished run yet.** Predictions of student and teacher are kept when a run ends.")
        return
    run = one_run(runs, "Run", "lost_run", place=place)
    if run is None:
        return
    queue_runs.confirm()
    row = store.get(run)
    run_header.show(store, row, everything)
    if row.broken:
        cards.empty("The settings of this run cannot be read, so neither can its losses.")
        return
    with cards.guarded("What was lost cannot be computed"):
        with st.spinner("Reading the predictions"):
            loss = read_loss(store, everything, run)
        if loss is None:
            cards.empty(_why_none(bool(row.config.teachers)))
            return
        _show(store, everything, loss)


def _show(store: Store, everything: pd.DataFrame, loss: Loss) -> None:
    answer.show(loss)
    with cards.guarded("The sizes cannot be drawn"):
        sizes.show(store, everything, loss)
    with cards.guarded("The rows cannot be counted"):
        rows.show(loss)
    with cards.guarded("The layers cannot be compared"):
        layers.show(store, loss)
    with cards.guarded("What the layers tell cannot be shown"):
        probes.show(store, loss)


def _why_none(taught: bool) -> str:
    if not taught:
        return "This run had **no teacher**, so nothing can be lost. Choose a distilled run."
    return "This run kept **no predictions** of its teacher: they are kept when a run ends."


shell.show(main)
