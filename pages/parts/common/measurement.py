"""Models of finished runs that are measured in the background: how far it is, and what went wrong."""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

from kdcore.runs.remeasure import Remeasurer
from pages.parts.common import cards
from pages.parts.common.read_only import action
from pages.parts.common.text import plain

REFRESH_SECONDS = 1.5


@st.cache_resource(show_spinner=False, on_release=lambda remeasurer: remeasurer.stop())
def remeasurer() -> Remeasurer:
    """One for all sessions: two measurements at once would disturb each other."""
    return Remeasurer()


def problems(background: Remeasurer, probe: str, runs: Collection[str]) -> None:
    """Of which of these runs the probe could not be taken last time, and why."""
    of_these = [(order, error) for order, error in background.problems(probe).items() if order.run in runs]
    for order, error in of_these[:3]:
        cards.problem(error, f"{plain(order.name, 60)} could not be measured")


def progress(background: Remeasurer) -> None:
    """How far the measurement is, and a button that ends it; to be drawn again and again."""
    if not background.working:
        st.rerun()
    seen = background.progress
    which = f"Run {background.position} of {background.count}: " if background.count > 1 else ""
    text = "stopping" if background.stopping else seen.what
    share = min(1.0, seen.done / seen.total) if seen.total else 0.0
    st.progress(share, text=f"{which}{plain(text, 80)}")
    action(
        "Stop measuring",
        key="speed_stop",
        icon=":material/stop:",
        on_click=background.stop,
        disabled=background.stopping,
    )
