"""The frame of every page: navigation, sidebar, and a card for what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from pages.parts.common.keys import JOB, LESSON, RUNS, TOUR
from pages.parts.common.menu import MANY_RUNS, ONE_RUN, ROOT, navigation

HERE = Path(__file__).resolve().parent
STATIC = ROOT / "static"
_script_run = threading.local()
_history = st.components.v2.component(
    "kd_history", html="<span hidden></span>", js=(HERE / "history.js").read_text(encoding="utf-8")
)


def run() -> None:
    """Draws the app: called once per script run."""
    # The browser keeps the first width of the sidebar that it hears of, and the first icon of a server takes a moment
    # to load. The icon is a file of ours: a Material icon would be fetched from a font server by the browser.
    st.set_page_config("KDBoard", layout="wide", initial_sidebar_state=230)
    st.set_page_config(page_icon=str(STATIC / "icon.svg"))
    st.logo(str(STATIC / "logo.svg"), size="large", icon_image=str(STATIC / "icon.svg"))
    page = navigation()
    st.html(HERE / "page.css")
    # Imported only now because it takes seconds: until the menu is set, Streamlit shows one of its own.
    from pages.parts.common import sidebar
    from pages.parts.common.file_limit import raise_file_limit
    from pages.parts.common.place import place_css

    st.html(f"<style>{place_css()}</style>")
    raise_file_limit()
    _keep_selection(page.url_path)
    with st.sidebar:
        sidebar.show()
        _history(key="history")
    with _navigated():
        _banners(page.url_path or "start")
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


def _banners(page: str) -> None:
    """What is on top of every page: a step of a lesson or of the tour, and why some buttons are missing."""
    from pages.parts.common.read_only import banner

    if LESSON in st.query_params:
        from pages.parts.learn.lesson_bar import bar  # imports the methods, and with them torch

        bar()
    elif TOUR in st.query_params:
        from pages.parts.start import tour

        tour.bar(page)
    banner()


def _keep_selection(page: str) -> None:
    """A click in the menu drops the URL's parameters; those of the selection are written again."""
    state = st.session_state
    if page in ONE_RUN and JOB not in st.query_params and state.get(JOB):
        st.query_params[JOB] = state[JOB]
    if page in MANY_RUNS and RUNS not in st.query_params and state.get(RUNS):
        st.query_params[RUNS] = ",".join(state[RUNS])
