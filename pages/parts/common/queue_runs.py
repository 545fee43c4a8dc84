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


def offer(
    label: str,
    runs: Sequence[RunConfig],
    key: str,
    help: str | None = None,
    tags: Sequence[str] = (),
    beside: Sequence[str] = (),
    menu: str = "",
    join: bool = True,
) -> None:
    """A button that queues these runs and adds them to the compared ones.

    Args:
        tags: which the runs get. beside: runs with which alone they are compared, in place of those chosen before.
        menu: key of the popover that the button stands in and that its click closes, see `close`.
        join: False leaves the compared runs as they are.
    """
    if action(label, key=key, icon=":material/playlist_add:", help=help):
        with cards.guarded("The runs could not be queued"):
            ids = _queue(runs, tags)
            if join:
                _remember(ids, beside or st.session_state.get("runs", []))
            st.session_state["queued_here"] = len(ids)
            st.session_state[f"{menu}-closes"] = bool(menu)
            st.rerun()


def close(menu: str) -> None:
    """Closes the popover of this key where a button in it was pressed; before it is drawn."""
    if st.session_state.pop(f"{menu}-closes", False):
        st.session_state[menu] = False


def add(label: str, runs: Sequence[str], key: str) -> None:
    """A button that adds these runs of the store to the comparison."""
    if st.button(label, key=key, icon=":material/playlist_add:"):
        _remember(runs, st.session_state.get("runs", []))
        st.rerun()


def confirm(then: str = "Results appear here when they are done.") -> None:
    """Confirms, once, what the last click queued, and says where it is seen."""
    if count := st.session_state.pop("queued_here", 0):
        st.toast(f"{count} run{'s' if count > 1 else ''} queued. {then}")


def check_queue(runs: int) -> None:
    """Raises UserError where so many more runs would make the queue too long."""
    if len(the_store().runs(states=["queued"])) + runs > MOST_QUEUED:
        raise UserError("queue", f"more than {MOST_QUEUED} runs would wait", "let some end, or cancel them on Running")


def _queue(runs: Sequence[RunConfig], tags: Sequence[str]) -> list[str]:
    """Queues what is not there yet; a run that is queued, under way or done already is not queued twice."""
    check_queue(len(runs))
    store = the_store()
    ids = []
    for run in runs:
        ids.append(store.ensure(complete(run))[0])
        if tags:
            store.annotate(ids[-1], tags=[*store.get(ids[-1]).tags, *tags])
    return ids


def _remember(runs: Sequence[str], beside: Sequence[str]) -> None:
    remember_many(list(dict.fromkeys([*beside, *runs]))[:MOST_RUNS])
