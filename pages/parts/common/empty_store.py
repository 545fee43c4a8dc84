"""What a page shows before there is any run: why it is empty, and the example that fills it, one click away."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import cards, shipped_example
from pages.parts.common.read_only import action
from pages.parts.common.run_picker import the_store


def show(text: str) -> None:
    """The reason, a button that opens the example on this very page, and the way to a run of one's own."""
    with st.container(border=True, key="empty_page"):
        st.markdown(text)
        with st.container(horizontal=True, vertical_alignment="center"):
            opened = action("Open the example", key="empty_example", type="primary", icon=":material/folder_open:")
            st.page_link("pages/start.py", label="Go to Start", icon=":material/home:", width="content")
        st.caption("Real runs that were recorded before. Nothing is trained, and they can be deleted again.")
    if opened:
        with cards.guarded("The example cannot be opened"), st.spinner("Opening the example"):
            shipped_example.open_here(the_store())
            st.rerun()
