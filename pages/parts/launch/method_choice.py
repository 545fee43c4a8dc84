"""The part of the launch form where the method and its recipe are chosen."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kdcore.methods import METHODS, Method
from kdcore.methods.catalog import FAMILIES, catalog, source_of
from kdcore.tasks import Task
from pages.parts.common import cards, method_problems
from pages.parts.launch import recipe
from pages.parts.launch.defaults import start_over

ALL, FAMILY = "all", "launch.family"


def choose(task: Task) -> tuple[type[Method], Any]:
    """Draws the choice; the method, and the container for what its recipe says."""
    method_problems.show()
    keys = [key for key in catalog() if key in METHODS]
    if st.session_state.get("launch.method") not in keys:
        st.session_state["launch.method"] = "kd" if "kd" in keys else keys[0]
    left, right = st.columns([2, 3], gap="small")
    with left:
        family = _family()
    with right:
        key = st.selectbox(
            "Method", [key for key in keys if family in (ALL, catalog()[key].family)], key="launch.method",
            on_change=_other_method, persist_state="session", format_func=_label,
        )  # fmt: skip
    method = METHODS[key if key in keys else keys[0]]
    recipe.choose(method.key, _other_recipe)
    docstring = (method.__doc__ or "").strip()
    if source := source_of(method.key):
        cards.outside(source.origin)
    st.caption(catalog()[method.key].idea)
    about_recipe = st.container()
    if task.kind not in method.kinds:
        st.warning(f"{method.title} has no meaning for {task.kind}. Choose another task or method.")
    with st.expander("Loss, shapes, and how this differs from the paper"):
        st.code(docstring, language=None)
        for paper in method.papers:
            st.caption(paper.reference)
    return method, about_recipe


def _family() -> str:
    """Draws the choice of a family; that family, or `ALL`. A method from a link or a clone is always listed."""
    known = {info.family for key, info in catalog().items() if key in METHODS}
    chosen = catalog()[st.session_state["launch.method"]].family
    if st.session_state.get(FAMILY) not in (ALL, chosen):
        st.session_state[FAMILY] = ALL
    return st.selectbox(
        "Family", [ALL, *(family for family in FAMILIES if family in known)], key=FAMILY, on_change=_other_family,
        persist_state="session", format_func=lambda family: FAMILIES.get(family, "all").capitalize(),
        help="What a method is about: which knowledge the student gets, or who gives it",
    )  # fmt: skip


def _label(key: str) -> str:
    info = catalog()[key]
    return f"{info.title} · {info.cite}"


def _other_family() -> None:
    """The first method of the family is chosen where another family's was."""
    members = [key for key, info in catalog().items() if key in METHODS and info.family == st.session_state[FAMILY]]
    if members and st.session_state["launch.method"] not in members:
        st.session_state["launch.method"] = members[0]
        _other_method()


def _other_recipe() -> None:
    start_over(st.session_state["launch.method"])


def _other_method() -> None:
    """A recipe is its method's own: it ends with the choice of another."""
    if chosen := recipe.current():
        st.session_state[recipe.KEY] = recipe.DEFAULTS
        start_over(chosen.method)
