"""The teacher that Layers and Attention show."""

from __future__ import annotations

import streamlit as st

from kdcore.store import RunRow
from pages.parts.common.keys import TEACHER


def one_teacher(names: list[str]) -> str:
    """A list box over teachers, tied to `?teacher=`; no box where there is only one."""
    if len(names) == 1:
        return names[0]
    if st.session_state.get(TEACHER) not in (None, *names):
        st.session_state[TEACHER] = names[0]  # of another run
    name = st.selectbox("Teacher", names, key=TEACHER, bind="query-params")
    return name if name in names else names[0]


def teacher_here(row: RunRow, names: list[str]) -> str | None:
    """The chosen teacher of those on this machine; where the run has some and none is here, it is said."""
    if not names and row.config.teachers:
        st.info("The teachers of this run are not on this machine, so only its student is shown.")
    return one_teacher(names) if names else None
