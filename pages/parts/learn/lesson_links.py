"""Links to the steps of a lesson."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.keys import PRESENT
from pages.parts.learn.lesson_address import RunsByName, address


def step_link(label: str, icon: str, lesson: str, number: int, by_name: RunsByName) -> None:
    """A link to a step. A button could not do it: it may not change the URL parameters of the page it is on."""
    page, query = address(lesson, number, by_name)
    if PRESENT in st.query_params:
        query[PRESENT] = "true"
    st.page_link(page, label=label, icon=icon or None, query_params=query, width="content")


def style() -> None:
    """All links in `lesson_links` containers look alike; Streamlit would mark those to the page one is on."""
    st.html(
        '<style>[class*="st-key-lesson_links"] a { background: none; border-radius: 0.5rem; '
        "border: 1px solid color-mix(in srgb, currentColor 25%, transparent); } "
        '[class*="st-key-lesson_links"] a * { font-weight: 600; }</style>'
    )
