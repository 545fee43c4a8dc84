"""Learn: every method as picture, equation and text; a temperature slider; lessons."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import cards, shell
from pages.parts.common.keys import PART
from pages.parts.learn import lesson_catalogue, method, temperature

PARTS = {"Methods": method.show, "Temperature": temperature.show, "Lessons": lesson_catalogue.show}


def main() -> None:
    cards.title(
        "Learn", "What a method matches, what it minimises, and what a temperature does to a teacher's probabilities."
    )
    part = _part()
    with cards.guarded(f"{part} cannot be shown"):
        PARTS[part]()


def _part() -> str:
    """A choice tied to `?part=`. Not bound by Streamlit: it would not go back to the default on a link to this page."""
    part = st.query_params.get(PART)
    st.session_state["learn_part"] = part if part in PARTS else next(iter(PARTS))
    return st.segmented_control(
        "Part of this page", list(PARTS), key="learn_part", required=True, on_change=_write_part,
        label_visibility="collapsed", default=None,
    ) or next(iter(PARTS))  # fmt: skip


def _write_part() -> None:
    st.query_params[PART] = st.session_state["learn_part"]


shell.show(main)
