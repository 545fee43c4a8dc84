"""All of the page in one file, put together when it is asked for."""

from __future__ import annotations

import streamlit as st

from kdcore.store import Store
from pages.parts.common.text import size

REPORT_BYTES = 5_000_000


def show(store: Store, picked: list[str], baseline: str) -> None:
    """A download of the report on the chosen runs. baseline: a run of the group that the others are set against."""
    st.download_button(
        "Report (HTML)",
        lambda: _html(store, picked, baseline),
        "report.html",
        "text/html",
        key="compare_report",
        icon=":material/description:",
    )
    st.caption(
        "Scores, verdicts, curves, layers, speed, settings, equations and how all was computed, for all chosen runs. "
        f"One file of about {size(REPORT_BYTES)}, most of it plotly.js: it opens without a network."
    )


def _html(store: Store, picked: list[str], baseline: str) -> bytes:
    from kdcore import report  # reads the methods' docstrings, and so brings torch: on the click, not with the page

    return report.html(store, picked, baseline).encode()
