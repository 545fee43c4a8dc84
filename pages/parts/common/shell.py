"""How a page is entered: always through `app.py`, and always behind a card for what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pages.parts.common.cards import guarded

_run = threading.local()


@contextmanager
def inside_app() -> Iterator[None]:
    """Marks this script run as one that came through `app.py`."""
    _run.inside = True
    try:
        yield
    finally:
        _run.inside = False


def show(main: Callable[[], None]) -> None:
    """Draws a page.

    On the first request after its start, Streamlit takes files in a folder `pages/` for pages of their own and runs
    them without `app.py`: no worker, no strip, another menu. A page entered that way goes through `app.py` first.
    """
    if getattr(_run, "inside", False):
        with guarded("This page cannot be shown"):
            main()
        return
    from app import main as app

    app()
