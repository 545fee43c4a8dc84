"""What is drawn of a sentence: which tokens look and which are seen, a window at a time, with special tokens or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kdcore.probes.attention import Maps, renormalised, words

WINDOW = 32
"""Tokens drawn at a time, down and across."""
SPECIAL = ("shown", "hidden", "hidden, rows sum to 1 again")


@dataclass(frozen=True)
class View:
    """What is drawn of a sentence. kept: places of the tokens that are not hidden; down, across: windows of these."""

    tokens: list[str]
    kept: NDArray[np.int64]
    down: slice
    across: slice
    sums_to_one: bool

    @property
    def rows(self) -> list[str]:
        return [self.tokens[at] for at in self.kept[self.down]]

    @property
    def columns(self) -> list[str]:
        return [self.tokens[at] for at in self.kept[self.across]]

    def cut(self, maps: Maps) -> Maps:
        """[layers, heads, tokens, tokens] -> [layers, heads, rows, columns]."""
        chosen = maps[..., self.kept, :][..., self.kept]
        chosen = renormalised(chosen) if self.sums_to_one else chosen
        return chosen[..., self.down, self.across]


def choose(tokens: list[str]) -> View:
    """The controls over what is drawn."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        special = st.selectbox(
            "Special tokens",
            SPECIAL,
            key="special",
            bind="query-params",
            width=260,
            help="[CLS] and [SEP]. Where they are hidden, the numbers stay as they are and rows no longer sum to 1, or "
            "each row is divided by what is left of it",
        )
        st.toggle(
            "Stretch the colours to the largest value",
            key="stretch",
            bind="query-params",
            help="Off: the scale ends at 1 for both models. On: at the largest value of either",
        )
    kept = words(tokens) if special in SPECIAL[1:] else np.arange(len(tokens))
    if not len(kept):
        st.info("There are only special tokens here, so they are shown.")
        kept = np.arange(len(tokens))
    everything = slice(0, len(kept))
    if len(kept) <= WINDOW:
        return View(tokens, kept, everything, everything, special == SPECIAL[2])
    with st.container(horizontal=True):
        down = _window("Tokens that look", "rows", len(kept))
        across = _window("Tokens that are seen", "columns", len(kept))
    return View(tokens, kept, down, across, special == SPECIAL[2])


def _window(label: str, key: str, count: int) -> slice:
    last = count - WINDOW + 1
    if st.session_state.get(key, 1) not in range(1, last + 1):
        st.session_state[key] = last  # of a longer sentence
    first = st.slider(f"{label}: {WINDOW} of {count}, from number", 1, last, key=key, bind="query-params")
    return slice(first - 1, first - 1 + WINDOW)


def stretched() -> bool:
    """Whether colours end at the largest value."""
    return bool(st.session_state.get("stretch"))


def in_words(view: View) -> str:
    """What is drawn, as a sentence."""
    hidden = len(view.tokens) - len(view.kept)
    said = f"{len(view.tokens)} tokens"
    if hidden:
        rest = "each row divided by what is left of it" if view.sums_to_one else "numbers as they are, not renormalised"
        said += f", {hidden} special ones hidden ({rest})"
    if len(view.rows) < len(view.kept):
        said += f"; numbers {view.down.start + 1} to {view.down.stop} look, "
        said += f"{view.across.start + 1} to {view.across.stop} are seen"
    return f"{said}."
