"""How often a page that follows a run is drawn anew: a person's choice, in the address (`?every=`) and the session."""

from __future__ import annotations

from datetime import datetime

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common.keys import EVERY

PERIODS: dict[str, float | None] = {"off": None, "1": 1.0, "2": 2.0, "5": 5.0, "10": 10.0}
"""Choice in the address -> seconds; None: not at all."""
USUAL = "1"
BOX = "live_every"


def period() -> float | None:
    """Seconds between two drawings; None where updates are off."""
    return PERIODS[_choice()]


def choose(place: DeltaGenerator) -> None:
    """The list box. place: where it stands, without its label."""
    st.session_state[BOX] = _choice()
    place.selectbox(
        "Live updates", list(PERIODS), key=BOX, format_func=_choice_text, on_change=_write,
        label_visibility="collapsed", width=190, help="How often this page is drawn anew while something trains",
    )  # fmt: skip


def say_off() -> None:
    """Says that the page stands still, since when, and how to see more."""
    with st.container(horizontal=True, vertical_alignment="center", key="live_off"):
        st.caption(f":material/pause_circle: Live updates are off. This is as of {datetime.now():%H:%M:%S}.")
        st.button("Update now", key="live_now", icon=":material/refresh:")


def _choice() -> str:
    asked = st.query_params.get(EVERY) or st.session_state.get(EVERY)
    chosen = asked if asked in PERIODS else USUAL
    st.session_state[EVERY] = chosen
    return chosen


def _write() -> None:
    st.query_params[EVERY] = st.session_state[EVERY] = st.session_state[BOX]


def _choice_text(choice: str) -> str:
    return "Updates off" if choice == "off" else f"Updates every {choice} s"
