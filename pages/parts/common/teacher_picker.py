"""The teacher that Layers and Attention show."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.keys import TEACHER


def one_teacher(names: list[str]) -> str:
    """A list box over teachers, tied to `?teacher=`; no box where there is only one."""
    if len(names) == 1:
        return names[0]
    if st.session_state.get(TEACHER) not in (None, *names):
        st.session_state[TEACHER] = names[0]  # of another run
    name = st.selectbox("Teacher", names, key=TEACHER, bind="query-params")
    return name if name in names else names[0]
