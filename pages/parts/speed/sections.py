"""What Speed has under its plot, one section at a time."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.keys import SPEED_SEARCH, SPEED_SECTION
from pages.parts.speed import remeasure, runtimes, searches

BASELINES, RUNTIMES, SEARCHES = "Compression baselines", "Runtimes", "Searches"


def show(store: Store, chosen: tuple[pd.DataFrame, pd.DataFrame] | None) -> None:
    """Args: chosen: the runs that count and their `cost_table`; None where no run can be shown."""
    section = SEARCHES if chosen is None else _open_section()
    with cards.guarded(f"{section} cannot be shown"):
        if section == SEARCHES:
            searches.show(store)
        elif chosen is not None and section == RUNTIMES:
            runtimes.show(store, chosen[0])
        elif chosen is not None:
            remeasure.show(store, *chosen)


def _open_section() -> str:
    """The section that is open, tied to the address; a link to a search opens the searches."""
    sections = (BASELINES, RUNTIMES, SEARCHES)
    asked = st.query_params.get(SPEED_SECTION)
    if asked not in sections:
        asked = sections[0]
        if SPEED_SEARCH in st.query_params:  # which its box takes out of the address where it is the first search
            st.query_params[SPEED_SECTION] = asked = SEARCHES
    st.session_state["speed_section"] = asked
    st.segmented_control(
        "More about these runs", sections, key="speed_section", required=True, on_change=_write_section,
        label_visibility="collapsed",
    )  # fmt: skip
    return asked


def _write_section() -> None:
    st.query_params[SPEED_SECTION] = st.session_state["speed_section"]
