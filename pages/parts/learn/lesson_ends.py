"""What stands around a lesson's steps: the guess before, and the summary after it, which leads on."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.keys import RUNS
from pages.parts.common.mode import read_only
from pages.parts.learn.lesson_address import RunsByName
from pages.parts.learn.lesson_links import step_link
from pages.parts.learn.lessons import Lesson, lessons


def poll(key: str, lesson: Lesson) -> None:
    """Asks for a guess; it is kept for the session and shown again at the end."""
    st.markdown(f"**Before you look:** {lesson.poll.question}")
    st.session_state[f"poll_{key}"] = st.session_state.get(f"guess_{key}")
    st.pills(
        "Your guess", lesson.poll.choices, key=f"poll_{key}", label_visibility="collapsed", on_change=_keep, args=(key,)
    )


def _keep(key: str) -> None:
    """A widget's own value is gone once a page is left."""
    st.session_state[f"guess_{key}"] = st.session_state[f"poll_{key}"]


def end(key: str, lesson: Lesson, by_name: RunsByName) -> None:
    """The guess again, what to keep in mind, and where to go from here."""
    guess = st.session_state.get(f"guess_{key}")
    if guess:
        st.markdown(f"**Your guess was:** {guess}. Hold it against the figure.")
    with st.expander("Summary", icon=":material/checklist:", expanded=False):
        st.markdown("\n".join(f"- {line}" for line in lesson.summary))
    keys = list(lessons())
    with st.container(horizontal=True, key="lesson_links_end"):
        if keys[-1] != key:
            following = keys[keys.index(key) + 1]
            step_link(f"Lesson {lessons()[following].number}", ":material/skip_next:", following, 1, {})
        ids = [run for chosen in by_name.values() for run in chosen]
        if ids:
            st.page_link("pages/compare.py", label="Compare these runs", icon=":material/stacked_line_chart:",
                         query_params={RUNS: ",".join(ids)}, width="content")  # fmt: skip
        if not read_only():
            st.page_link("pages/launch.py", label="Launch your own", icon=":material/rocket_launch:", width="content")
