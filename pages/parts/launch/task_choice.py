"""The part of the launch form where the task is chosen, or a person's own table described."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kdcore.config import OwnData
from kdcore.tasks import TASKS, Task
from pages.parts.common import cached, cards
from pages.parts.common.text import plain, sentence
from pages.parts.launch import forms
from pages.parts.launch.defaults import fill_for_task


def choose() -> tuple[Task, dict[str, Any] | None]:
    """Draws the choice; the task, and the settings of the own table where it is one."""
    here = cached.tasks_here()
    keys = [*sorted(TASKS, key=lambda key: not here[key].ok), "own"]
    if st.session_state.get("launch.task") not in keys:
        st.session_state["launch.task"] = keys[0]
    if "launch.train.lr" not in st.session_state:
        fill_for_task()
    key = st.selectbox(
        "Task", keys, key="launch.task", on_change=fill_for_task, persist_state="session",
        format_func=lambda key: _label(key, here),
    )  # fmt: skip
    if key == "own":
        return _own_table()
    task = TASKS[key]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{sentence(task.about)} {plain(sentence(here[key].source), 300)}")
        cards.badges(key)
    if not here[key].ok:
        st.warning(f"These rows are not on this machine. {plain(here[key].remedy, 400)}", icon=":material/cloud_off:")
    return task, None


def _label(key: str, here: dict[str, Any]) -> str:
    if key == "own":
        return "Own data (CSV, TSV, TXT, JSON, JSONL, Parquet)"
    task = TASKS[key]
    mark = " · synthetic" if task.synthetic else ("" if here[key].ok else " · not on this machine")
    return f"{task.title} · {task.kind}{mark}"


def _own_table() -> tuple[Task, dict[str, Any]]:
    with st.container(border=True):
        own = forms.fields(OwnData, "launch.own", columns=2)
    kind = own["kind"]
    columns = ("text", "pair") if own["text_pair"] else ("text",)
    labels = () if kind == "regression" else ("0", "1")
    return Task("own", "Own data", "own", columns, kind, labels, ("accuracy",)), own
