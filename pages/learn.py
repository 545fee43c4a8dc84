"""Learn: every method as picture, equation and words; a temperature to turn; lessons."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import cards, shell
from pages.parts.learn import lesson, method, temperature

PARTS = {"Methods": method.show, "Temperature": temperature.show, "Lessons": lesson.catalogue}


def main() -> None:
    cards.title("Learn", "What a method matches, what it minimises, and what a temperature does to a teacher's answer.")
    part = _part()
    with cards.guarded(f"{part} cannot be shown"):
        PARTS[part]()


def _part() -> str:
    """A choice tied to `?part=`. Not bound by Streamlit: it would not go back to the default on a link to this page."""
    asked = st.query_params.get("part")
    st.session_state["learn_part"] = asked if asked in PARTS else next(iter(PARTS))
    return st.segmented_control(
        "Part of this page", list(PARTS), key="learn_part", required=True, on_change=_turned,
        label_visibility="collapsed", default=None,
    ) or next(iter(PARTS))  # fmt: skip


def _turned() -> None:
    st.query_params["part"] = st.session_state["learn_part"]


shell.show(main)
