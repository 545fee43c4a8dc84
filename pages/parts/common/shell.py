"""The frame of every page: navigation, sidebar, and a card for what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.common.keys import JOB, LESSON, RUNS

ROOT = Path(__file__).resolve().parents[3]
STATIC = ROOT / "static"
PAGES = {
    "start": ("Start", ":material/home:", "What this is, a one-minute demo, and the last runs."),
    "launch": ("Launch", ":material/rocket_launch:", "Choose task, teachers, student and method, see the cost, start."),
    "live": ("Live", ":material/monitoring:", "Watch a run: progress, the loss and its terms, scores, log. The queue."),
    "runs": ("Runs", ":material/table_rows:", "All runs: open, resume, clone, note, delete."),
    "compare": ("Compare", ":material/stacked_line_chart:", "Curves, final scores and settings of several runs."),
    "layers": ("Layers", ":material/grid_on:", "How far the student's layers are from the teacher's."),
    "attention": ("Attention", ":material/visibility:", "Where teacher and student attend in a sentence of yours."),
    "examples": (
        "Examples",
        ":material/rule:",
        "Row by row: what the student learned from its teacher and what it lost.",
    ),
    "speed": ("Speed", ":material/speed:", "Quality against latency, and the Pareto front."),
    "learn": ("Learn", ":material/school:", "Each method as picture, equation and text; temperature; lessons."),
    "system": ("System", ":material/memory:", "This machine, its disk, its queue, and the data and models on it."),
}
"""Key -> title, icon, and what the page is for."""
ONE_RUN = ("live", "layers", "attention")
MANY_RUNS = ("compare", "speed", "examples")

_script_run = threading.local()


def run() -> None:
    """Draws the app: called once per script run."""
    # The icon is a file of ours: a Material icon would be fetched from a font server by the browser.
    st.set_page_config("KDBoard", str(STATIC / "icon.svg"), layout="wide", initial_sidebar_state=230)
    st.logo(str(STATIC / "logo.svg"), size="large", icon_image=str(STATIC / "icon.svg"))
    page = st.navigation([_page(key) for key in PAGES])
    # Imported only now because it takes seconds: until the menu is set, Streamlit shows one of its own.
    from pages.parts.common import sidebar
    from pages.parts.common.file_limit import raise_file_limit

    raise_file_limit()
    _keep_selection(page.url_path)
    with st.sidebar:
        sidebar.show()
    with _navigated():
        _banners()
        page.run()


def show(main: Callable[[], None]) -> None:
    """Draws a page; what it raises becomes a card.

    On the first request after its start, Streamlit takes files in a folder `pages/` for pages of their own and runs
    them without `app.py`: no worker, no sidebar, another menu. A page entered that way draws the whole app instead.
    """
    from pages.parts.common.cards import guarded

    if not getattr(_script_run, "navigated", False):
        run()
        return
    with guarded("This page cannot be shown"):
        main()


@contextmanager
def _navigated() -> Iterator[None]:
    """Marks this script run as one that `run` has drawn the frame of."""
    _script_run.navigated = True
    try:
        yield
    finally:
        _script_run.navigated = False


def _page(key: str) -> Any:
    title, icon, purpose = PAGES[key]
    first = key == "start"
    path = ROOT / "pages" / f"{key}.py"
    return st.Page(path, title=title, icon=icon, help=purpose, default=first, url_path=None if first else key)


def _banners() -> None:
    """What is on top of every page: a lesson's step, and why some buttons are missing."""
    from pages.parts.common.read_only import banner

    if LESSON in st.query_params:
        from pages.parts.learn.lesson_bar import bar  # imports the methods, and with them torch

        bar()
    banner()


def _keep_selection(page: str) -> None:
    """A click in the menu drops the URL's parameters; those of the selection are written again."""
    state = st.session_state
    if page in ONE_RUN and JOB not in st.query_params and state.get(JOB):
        st.query_params[JOB] = state[JOB]
    if page in MANY_RUNS and RUNS not in st.query_params and state.get(RUNS):
        st.query_params[RUNS] = ",".join(state[RUNS])
