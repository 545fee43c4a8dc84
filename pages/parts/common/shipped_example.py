"""The example study that comes with the program: opened with one click wherever a page has nothing to show yet."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import streamlit as st

from kdcore.paths import cache_dir
from kdcore.runs import example
from kdcore.store import Store
from pages.parts.common.keys import RUNS
from pages.parts.common.mode import read_only

PREFIX = "kdboard-example-"
"""How the folder is called that it is lent in."""
SHOWN = "The store holds no run, so this is the finished example that comes with KDBoard."


def choose(ids: list[str]) -> None:
    """Makes the example's runs those that pages look at."""
    st.session_state[RUNS] = ids
    if st.session_state.get("job") not in (None, *ids):
        st.session_state.pop("job")


def open_here(store: Store) -> list[str]:
    """Puts the example into the store and makes its runs the chosen ones."""
    ids = example.open_study(store)
    choose(ids)
    return ids


def lend(open_store: Callable[[], Store]) -> Store:
    """The store; where nothing may be written and it has no run, that of the example, unpacked into a folder that goes
    when the program ends."""
    if read_only() and not os.environ.get("KD_DATABASE_URL"):
        folder = _unpack(str(cache_dir()), open_store)
        if folder is not None:
            os.environ["KD_CACHE_DIR"] = folder.name  # students and teachers are read from there, too
    return open_store()


def lent() -> bool:
    """Whether the example stands in for an empty store."""
    return read_only() and cache_dir().name.startswith(PREFIX)


@st.cache_resource(show_spinner="Opening the example")
def _unpack(cache: str, _open_store: Callable[[], Store]) -> tempfile.TemporaryDirectory[str] | None:
    """The example in a folder of its own; None where the cache has runs."""
    if not _open_store().runs(include_archived=True).empty:
        return None
    folder = tempfile.TemporaryDirectory(prefix=PREFIX)
    before = os.environ.get("KD_CACHE_DIR")
    os.environ["KD_CACHE_DIR"] = folder.name
    try:
        example.open_study(_open_store())
    finally:  # set for good by who asked, so that those who wait for this see the cache they asked for
        os.environ.pop("KD_CACHE_DIR")
        if before is not None:
            os.environ["KD_CACHE_DIR"] = before
    return folder
