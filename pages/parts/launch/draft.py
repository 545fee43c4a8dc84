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

PREFIX = "launch."
MOST_DRAFTS = 200
Plain = str | int | float | bool | list[Any] | None


class Drafts:
    """Name -> the form's values; the oldest go first."""

    def __init__(self) -> None:
        self._forms: OrderedDict[str, dict[str, Plain]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str) -> dict[str, Plain]:
        with self._lock:
            return dict(self._forms.get(name, {}))

    def put(self, name: str, form: dict[str, Plain]) -> None:
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
    """Keeps what the form holds now."""
    form = {
        str(key): value
        for key, value in st.session_state.items()
        if str(key).startswith(PREFIX) and isinstance(value, Plain)
    }
    name = st.session_state.setdefault(DRAFT, secrets.token_urlsafe(6))
    _drafts().put(name, form)
    if st.query_params.get(DRAFT) != name:
        st.query_params[DRAFT] = name
