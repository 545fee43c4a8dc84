"""Read-only mode (`KD_READ_ONLY=1`), for a lecture hall: everything can be looked at, nothing started or changed.

The guard is one: pages get the store from `run_picker.the_store` and the worker from `sidebar.worker`, and in this mode
both can only read. What is hidden on the page is courtesy, what is refused here is the rule.
"""

from __future__ import annotations

import os
from typing import Any, cast

import streamlit as st

from kdcore.errors import UserError
from kdcore.store import Store

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
        "stop_requested",
    }
)
"""All that `Store` offers and that changes nothing. What is not listed here is refused."""


def read_only() -> bool:
    """Whether this program was started to show runs only."""
    return os.environ.get("KD_READ_ONLY", "").strip().lower() in ("1", "true", "yes", "on")


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
        return getattr(self._store, name)


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
        st.caption(f":material/lock: {NOTICE}")
