"""The part of the launch form where the method and its recipe are chosen."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kdcore.methods import METHODS, Method
from kdcore.tasks import Task
from pages.parts.launch import recipe
from pages.parts.launch.defaults import start_over


def choose(task: Task) -> tuple[type[Method], Any]:
    """Draws the choice; the method, and the container for what its recipe says."""
    keys = list(METHODS)
    if st.session_state.get("launch.method") not in keys:
        st.session_state["launch.method"] = "kd" if "kd" in keys else keys[0]
    left, right = st.columns(2, gap="small")
    with left:
        key = st.selectbox(
            "Method", keys, key="launch.method", on_change=_other_method, persist_state="session", format_func=_label
        )
    method = METHODS[key if key in keys else keys[0]]
    with right:
        recipe.choose(method.key, _other_recipe)
    docstring = (method.__doc__ or "").strip()
    st.caption(docstring.partition("\n")[0])
    about_recipe = st.container()
    if task.kind not in method.kinds:
        st.warning(f"{method.title} has no meaning for {task.kind}. Choose another task or method.")
    with st.expander("Loss, shapes, and how this differs from the paper"):
        st.code(docstring, language=None)
        st.caption(method.paper.reference)
    return method, about_recipe


def _label(key: str) -> str:
    method = METHODS[key]
    return f"{method.title} · {method.paper.cite}"


def _other_recipe() -> None:
    start_over(st.session_state["launch.method"])


def _other_method() -> None:
    """A recipe is its method's own: it ends with the choice of another."""
    if chosen := recipe.chosen():
        st.session_state[recipe.KEY] = recipe.DEFAULTS
        start_over(chosen.method)
