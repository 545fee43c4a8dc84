"""Runs that a page proposes and a person queues with one click."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.runs.complete import complete
from pages.parts.common import cards
from pages.parts.common.read_only import action
from pages.parts.common.run_picker import MOST_RUNS, the_store
from pages.parts.common.selection import remember_many

MOST_QUEUED = 200


def with_seed(run: RunConfig, seed: int) -> RunConfig:
    """The same run with another seed; a name that tells the seed tells the new one."""
    old = f"seed {run.train.seed}"
    name = run.name.replace(old, f"seed {seed}") if run.name.endswith(old) else run.name
    return run.model_copy(update={"name": name, "train": run.train.model_copy(update={"seed": seed})})


def offer(label: str, runs: Sequence[RunConfig], key: str, help: str | None = None) -> None:
    """A button that queues these runs and adds them to the comparison."""
    if action(label, key=key, icon=":material/playlist_add:", help=help):
        with cards.guarded("The runs could not be queued"):
            ids = _queue(runs)
            _remember(ids)
            st.session_state["queued_here"] = len(ids)
            st.rerun()


def add(label: str, runs: Sequence[str], key: str) -> None:
    """A button that adds these runs of the store to the comparison."""
    if st.button(label, key=key, icon=":material/playlist_add:"):
        _remember(runs)
        st.rerun()


def confirm() -> None:
    """Confirms, once, what the last click queued."""
    if count := st.session_state.pop("queued_here", 0):
        st.toast(f"{count} run{'s' if count > 1 else ''} queued. Results appear here when they are done.")


def check_queue(runs: int) -> None:
    """Raises UserError where so many more runs would make the queue too long."""
    if len(the_store().runs(states=["queued"])) + runs > MOST_QUEUED:
        raise UserError("queue", f"more than {MOST_QUEUED} runs would wait", "let some end, or cancel them on Running")


def _queue(runs: Sequence[RunConfig]) -> list[str]:
    """Queues what is not there yet; a run that is queued, under way or done already is not queued twice."""
    check_queue(len(runs))
    store = the_store()
    return [store.ensure(complete(run))[0] for run in runs]


def _remember(runs: Sequence[str]) -> None:
    chosen = list(st.session_state.get("runs", []))
    remember_many([*chosen, *(run for run in runs if run not in chosen)][:MOST_RUNS])
