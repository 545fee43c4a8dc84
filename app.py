"""KDBoard: run with `streamlit run app.py`. Navigation, the worker, and the strip that stands on every page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.cards import guarded
from pages.parts.strip import strip

PAGES = [
    st.Page(
        "pages/start.py",
        title="Start",
        icon=":material/home:",
        default=True,
        help="What this is, a one-minute demo, and the last runs.",
    ),
    st.Page(
        "pages/launch.py",
        title="Launch",
        icon=":material/rocket_launch:",
        url_path="launch",
        help="Choose task, teachers, student and method, see the cost, and start.",
    ),
    st.Page(
        "pages/live.py",
        title="Live",
        icon=":material/monitoring:",
        url_path="live",
        help="Watch a run: progress, the loss and its terms, scores, log. The queue.",
    ),
    st.Page(
        "pages/runs.py",
        title="Runs",
        icon=":material/table_rows:",
        url_path="runs",
        help="All runs: open, resume, clone, note, delete.",
    ),
    st.Page(
        "pages/compare.py",
        title="Compare",
        icon=":material/stacked_line_chart:",
        url_path="compare",
        help="Curves and final scores of several runs, over seeds, and how their settings differ.",
    ),
    st.Page(
        "pages/layers.py",
        title="Layers",
        icon=":material/grid_on:",
        url_path="layers",
        help="How far the student's layers are from the teacher's.",
    ),
    st.Page(
        "pages/attention.py",
        title="Attention",
        icon=":material/visibility:",
        url_path="attention",
        help="Where teacher and student look in your own sentence.",
    ),
    st.Page(
        "pages/speed.py",
        title="Speed",
        icon=":material/speed:",
        url_path="speed",
        help="Quality against latency, and what nobody beats.",
    ),
]


@st.cache_resource(show_spinner=False, on_release=lambda worker: getattr(worker, "shutdown", lambda: None)())
def worker() -> Any:
    """The background worker of this process, started once. An error is kept, to be shown on every page."""
    from kdcore.jobs import jobs

    held = jobs()
    held.start()
    return held


def _worker_or_error() -> Any:
    try:
        return worker()
    except Exception as error:
        return error


def _keep_selection() -> None:
    """A click in the menu drops the address's parameters; those of the selection are written again."""
    if (
        "job" not in st.query_params
        and st.session_state.get("job")
        and page.url_path in ("live", "layers", "attention")
    ):
        st.query_params["job"] = st.session_state["job"]
    if "runs" not in st.query_params and st.session_state.get("runs") and page.url_path in ("compare", "speed"):
        st.query_params["runs"] = ",".join(st.session_state["runs"])


st.set_page_config(page_title="KDBoard", page_icon="static/icon.svg", layout="wide", initial_sidebar_state=230)
page = st.navigation(PAGES)
_keep_selection()
with st.sidebar:
    strip(_worker_or_error())
with guarded("This page cannot be shown"):
    page.run()
