"""Read-only mode (`KD_READ_ONLY=1`), for a lecture hall: everything can be looked at, nothing started or changed.

The guard is one: pages get the store from `run_picker.the_store` and the worker from `sidebar.worker`, and in this mode
both can only read. What is hidden on the page is courtesy, what is refused here is the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pandas as pd
import streamlit as st

from kdcore.errors import UserError
from kdcore.store import ACTIVE, RunRow, Store
from pages.parts.common.mode import read_only as read_only
from pages.parts.common.shipped_example import SHOWN, lent

NOTICE = "Read-only: runs can be looked at here, but not started, stopped, changed or deleted."
REMEDY = "start the program without KD_READ_ONLY to change something"
READS = frozenset(
    {
        "get",
        "rows",
        "settings",
        "runs",
        "busy",
        "metrics",
        "points",
        "quantities",
        "evaluated",
        "evaluations",
        "probes",
        "probes_of",
        "find",
        "abandoned",
        "stop_requested",
        "waiting",
    }
)
"""All that `Store` offers and that changes nothing. What is not listed here is refused."""


class ReadOnlyProxy:
    """Stands in for a store or a worker and passes on only what reads.

    Raises:
        UserError: every other call.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name not in READS:
            refuse(name)
        if name in ("get", "rows", "runs") and self._store.abandoned():
            return getattr(Seen(self._store), name)
        return getattr(self._store, name)


class Seen:
    """Reads runs whose worker is dead as interrupted, where nobody may write that down."""

    def __init__(self, store: Store) -> None:
        self._store, self._dead = store, store.abandoned()

    def get(self, run_id: str) -> RunRow:
        return self._row(self._store.get(run_id))

    def rows(self, run_ids: Sequence[str]) -> dict[str, RunRow]:
        return {run: self._row(row) for run, row in self._store.rows(run_ids).items()}

    def runs(self, states: Sequence[str] | None = None, **which: Any) -> pd.DataFrame:
        frame = self._store.runs(None if states is None else sorted({*states, *ACTIVE}), **which)
        for run, why in self._dead.items():
            frame.loc[frame["id"] == run, ["state", "reason"]] = ["interrupted", why]
        return frame if states is None else frame[frame["state"].isin(states)].reset_index(drop=True)

    def _row(self, row: RunRow) -> RunRow:
        if row.id not in self._dead or not row.active:
            return row
        return replace(row, state="interrupted", reason=self._dead[row.id], worker=None)


def guarded(store: Store) -> Store:
    """The store, or, in read-only mode, what can be read of it."""
    return cast(Store, ReadOnlyProxy(store)) if read_only() else store


def refuse(what: str) -> None:
    """Raises UserError: this is not done in read-only mode."""
    raise UserError("read-only", f"{what.replace('_', ' ')} is switched off on this read-only dashboard", REMEDY)


def action(label: str, **options: Any) -> bool:
    """`st.button` for what starts, changes or deletes something: absent in read-only mode."""
    return False if read_only() else st.button(label, **options)


def banner() -> None:
    """Says why some buttons are not there."""
    if read_only():
        st.caption(f":material/lock: {NOTICE} {SHOWN if lent() else ''}")
