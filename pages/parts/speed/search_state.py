"""Whether a search is under way, its last words, and buttons that stop it and go on with it."""

from __future__ import annotations

import streamlit as st

from kdcore.errors import UserError
from kdcore.search import background, record
from pages.parts.common import cards
from pages.parts.common.read_only import action, refuse
from pages.parts.common.read_only import read_only as is_read_only
from pages.parts.common.text import plain

REFRESH_SECONDS = 3.0


def show(name: str) -> None:
    """The state of a search that was started here or at a command line."""
    if background.state(name).running:
        st.fragment(_under_way, run_every=REFRESH_SECONDS)(name)
        return
    state = background.state(name)
    if state.failed:
        st.error(f"It ended with an error: {plain(state.last, 400)}", icon=":material/error:")
    if not _over(name) and action(
        "Continue the search", key="speed_search_continue", icon=":material/play_arrow:",
        help="From where it was stopped or lost: no run is trained twice",
    ):  # fmt: skip
        begin(name)


def begin(name: str) -> None:
    """Goes on with a search."""
    if is_read_only():
        refuse("a search")
    try:
        background.start(background.asked(name))
    except UserError as error:
        cards.problem(error, "The search cannot go on")
        return
    st.rerun()


def _over(name: str) -> bool:
    """Whether it has come to its end."""
    try:
        return bool(record.read(name).ended)
    except UserError:
        return False


def _under_way(name: str) -> None:
    state = background.state(name)
    if not state.running:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/hourglass_top: Under way: {plain(state.last or 'it begins', 300)}")
        action(
            "Stop the search", key="speed_search_stop", icon=":material/stop:", on_click=background.stop, args=(name,),
            help="The run that it trains can be resumed, and the search can go on later",
        )  # fmt: skip
