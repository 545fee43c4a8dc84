"""What a person has typed into the form, kept under a name in the address (`?draft=`), so that a reload loses nothing.

Kept in this process, for the last forms that were touched: a run that was started has its settings in the store.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from threading import Lock
from typing import Any

import streamlit as st

from pages.parts.common.keys import DRAFT

PREFIX, BUTTONS = "launch.", ("launch.hand.", "launch.drop.")
"""How keys of the form begin, and those of its parts with buttons, which nobody may set."""
MOST_DRAFTS = 200
PLAIN = (str, int, float, bool, list, type(None))
"""Types of what is kept; other values are of widgets that cannot be set."""


class Drafts:
    """Name -> the form's values; the oldest go first."""

    def __init__(self) -> None:
        self._forms: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str) -> dict[str, Any]:
        with self._lock:
            return dict(self._forms.get(name, {}))

    def put(self, name: str, form: dict[str, Any]) -> None:
        with self._lock:
            self._forms[name] = form
            self._forms.move_to_end(name)
            while len(self._forms) > MOST_DRAFTS:
                self._forms.popitem(last=False)


@st.cache_resource(show_spinner=False)
def _drafts() -> Drafts:
    return Drafts()


def fill() -> None:
    """Puts the draft that the address names into the form of a new session."""
    asked = st.query_params.get(DRAFT, "")
    if asked and not any(str(key).startswith(PREFIX) for key in st.session_state):
        st.session_state.update(_drafts().get(asked))


def keep() -> None:
    """Keeps what the form holds now.

    The address names it from the second time on: before, nothing was typed, and `history.js` is not there yet, so that
    the name would be an entry of the history that Back stops at.
    """
    form = {
        str(key): value
        for key, value in st.session_state.items()
        if str(key).startswith(PREFIX) and not str(key).startswith(BUTTONS) and isinstance(value, PLAIN)
    }
    first = DRAFT not in st.session_state
    name = st.session_state.setdefault(DRAFT, secrets.token_urlsafe(6))
    _drafts().put(name, form)
    if not first and st.query_params.get(DRAFT) != name:
        st.query_params[DRAFT] = name
