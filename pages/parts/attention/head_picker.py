"""The controls that choose a student head and a teacher head."""

from __future__ import annotations

import numpy as np
import streamlit as st

from kdcore.probes.attention import Maps
from pages.parts.attention.panels import Head
from pages.parts.common.keys import HEAD, LAYER, TEACHER_HEAD

NEAREST = "nearest"


def choose(student: Maps, teacher: Maps | None) -> tuple[Head, Head | None]:
    """The student head, and the teacher head to compare it with; None: the nearest."""
    with st.container(horizontal=True):
        layer = _number("Student layer", LAYER, student.shape[0])
        head = _number("Student head", HEAD, student.shape[1])
        if teacher is None:
            return (layer, head), None
        heads = [(t_layer + 1, t_head + 1) for t_layer, t_head in np.ndindex(*teacher.shape[:2])]
        options = {NEAREST: None} | {f"{t_layer}.{t_head}": (t_layer, t_head) for t_layer, t_head in heads}
        if st.session_state.get(TEACHER_HEAD) not in (None, *options):
            st.session_state[TEACHER_HEAD] = NEAREST
        choice = st.selectbox(
            "Teacher head",
            list(options),
            key=TEACHER_HEAD,
            bind="query-params",
            width=160,
            help="Layer.head, counted from 1",
        )
    return (layer, head), options.get(choice)


def _number(label: str, key: str, most: int) -> int:
    if st.session_state.get(key, 1) not in range(1, most + 1):
        st.session_state[key] = most  # of a larger model
    return int(st.number_input(label, 1, most, key=key, bind="query-params", width=160))
