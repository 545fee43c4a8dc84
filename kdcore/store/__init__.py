"""Runs, metrics, evaluations, probes and the queue, in one database."""

from __future__ import annotations

import os
import threading

from kdcore.store import database
from kdcore.store.claims import ATTEMPTS, LEASE_SECONDS, Capability
from kdcore.store.run_row import ACTIVE, RESUMABLE, STATES, UNFINISHED, RunRow
from kdcore.store.store import LeaseLostError, Store

__all__ = [
    "ACTIVE",
    "ATTEMPTS",
    "LEASE_SECONDS",
    "RESUMABLE",
    "STATES",
    "UNFINISHED",
    "Capability",
    "LeaseLostError",
    "RunRow",
    "Store",
    "open_store",
]

_open: dict[tuple[str, int, int], Store] = {}
_lock = threading.Lock()


def open_store(url: str | None = None) -> Store:
    """The store at this address: `url`, else `KD_DATABASE_URL`, else `runs.db` in the cache folder.

    Cheap to call again and again; one Store per database and process.

    Raises:
        UserError: the address cannot be used. CorruptError: the file is damaged or not a database of this program.
    """
    url = url or database.default_url()
    with _lock:
        store = _open.get(_identity(url))
        if store is None:
            store = Store(database.open_engine(url))
            _open[_identity(url)] = store
        return store


def _identity(url: str) -> tuple[str, int, int]:
    """Another process after a fork, or another file under the same name, needs connections of its own."""
    path = database.database_file(url)
    return url, os.getpid(), path.stat().st_ino if path is not None and path.exists() else 0
