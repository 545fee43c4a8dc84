"""The cache folder: what is in it, and the clicks that free space."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.paths import cache_dir
from kdcore.runs import cleanup
from pages.parts.common.place import place_of
from pages.parts.common.read_only import action, read_only, refuse
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import plain, size

ROW_HEIGHT = 35
"""Of a table of Streamlit's, in pixels."""
MOST_LISTED = 10
"""Folders named before they are removed."""


def show() -> None:
    from kdcore.engine import machine, teacher_cache

    st.subheader("Cache", anchor=False)
    with st.spinner("Measuring the cache"):
        entries = _entries(str(cache_dir()))
    disk = machine.disk(cache_dir())
    outputs = next((entry.size for entry in entries if entry.name == "outputs"), 0)
    with st.container(horizontal=True, key="system_disk"):
        st.metric("Cache", size(sum(entry.size for entry in entries)), border=True, width="stretch")
        st.metric("Teacher outputs", f"{size(outputs)} of {size(teacher_cache.budget())}", border=True, width="stretch")
        st.metric("Free on this disk", f"{size(disk.free)} of {size(disk.total)}", border=True, width="stretch")
    table = pd.DataFrame(
        [(entry.name, entry.contents, entry.entries, size(entry.size)) for entry in entries],
        columns=["name", "what", "entries", "size"],
    )
    with st.container(key=f"{place_of(ROW_HEIGHT * (len(table) + 1))}system_cache"):
        st.dataframe(table, hide_index=True, key="system_cache", alt="Folders of the cache with their sizes")
    st.caption(f"All of it is in {plain(cache_dir(), 300)}.")
    with st.container(horizontal=True):
        if action("Free teacher outputs", key="system_free", icon=":material/delete_sweep:", disabled=not outputs):
            _free_outputs(outputs)
        if action("Remove what no run needs", key="system_gc", icon=":material/cleaning_services:"):
            _remove_garbage()


@st.cache_data(ttl=30, max_entries=4, show_spinner=False)
def _entries(folder: str) -> list[cleanup.CacheEntry]:
    return cleanup.cache_entries()


@st.dialog("Free teacher outputs")
def _free_outputs(used: int) -> None:
    st.markdown(
        f"The outputs of frozen teachers take **{size(used)}**. Runs that need them again run their teachers once "
        "more: that costs time, and no result changes. Outputs that a run is reading now stay."
    )
    if _confirm("Free them"):
        _report(cleanup.free_outputs())


@st.dialog("Remove what no run needs")
def _remove_garbage() -> None:
    garbage = list(cleanup.find_garbage(the_store()))
    if not garbage:
        st.markdown(
            "There is nothing to remove: every folder belongs to a run, and no finished run keeps a checkpoint."
        )
        return
    st.markdown(f"**{size(sum(item.size for item in garbage))}** in {len(garbage)} folders, of no use to any run:")
    for item in garbage[:MOST_LISTED]:
        st.markdown(f"- {plain(item.reason)} ({size(item.size)})")
    if len(garbage) > MOST_LISTED:
        st.markdown(f"- and {len(garbage) - MOST_LISTED} more")
    if _confirm("Remove them"):
        _report(cleanup.remove(garbage))


def _confirm(label: str) -> bool:
    """The second click of a dialog."""
    with st.container(horizontal=True):
        yes = st.button(label, key="system_yes", type="primary")
        if st.button("Keep them", key="system_no"):
            st.rerun()
    if yes and read_only():
        refuse("removing files")
    return yes


def _report(freed: int) -> None:
    _entries.clear()
    st.toast(f"{size(freed)} freed", icon=":material/check:")
    st.rerun()
