"""Which tokens of a sentence are drawn: a window of rows and of columns, with special tokens or without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kdcore.probes.attention import Maps, renormalise, word_positions
from pages.parts.common.keys import COLUMNS, ROWS, SPECIAL, STRETCH

WINDOW = 32
"""Tokens drawn at a time, down and across."""
SPECIAL_OPTIONS = ("shown", "hidden", "hidden, rows sum to 1 again")


@dataclass(frozen=True)
class TokenWindow:
    """What is drawn of a sentence. positions: of the tokens that are not hidden; down, across: windows of these."""

    tokens: list[str]
    positions: NDArray[np.int64]
    down: slice
    across: slice
    sums_to_one: bool

    @property
    def rows(self) -> list[str]:
        return [self.tokens[position] for position in self.positions[self.down]]

    @property
    def columns(self) -> list[str]:
        return [self.tokens[position] for position in self.positions[self.across]]

    def cut(self, maps: Maps) -> Maps:
        """[layers, heads, tokens, tokens] -> [layers, heads, rows, columns]."""
        visible = maps[..., self.positions, :][..., self.positions]
        visible = renormalise(visible) if self.sums_to_one else visible
        return visible[..., self.down, self.across]


def choose(tokens: list[str]) -> TokenWindow:
    """The controls over what is drawn."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        special = st.selectbox(
            "Special tokens",
            SPECIAL_OPTIONS,
            key=SPECIAL,
            bind="query-params",
            width=260,
            help="[CLS] and [SEP]. Where they are hidden, the numbers stay as they are and rows no longer sum to 1, or "
            "each row is divided by the sum of what remains",
        )
        st.toggle(
            "Contrast",
            value=True,
            key=STRETCH,
            bind="query-params",
            help="On: colours go by the square root and end at the largest value of either model. Off: from 0 to 1",
        )
    positions = word_positions(tokens) if special in SPECIAL_OPTIONS[1:] else np.arange(len(tokens))
    if not len(positions):
        st.info("There are only special tokens here, so they are shown.")
        positions = np.arange(len(tokens))
    sums_to_one = special == SPECIAL_OPTIONS[2]
    if len(positions) <= WINDOW:
        everything = slice(0, len(positions))
        return TokenWindow(tokens, positions, everything, everything, sums_to_one)
    with st.container(horizontal=True):
        down = _window("Rows (tokens that attend)", ROWS, len(positions))
        across = _window("Columns (tokens attended to)", COLUMNS, len(positions))
    return TokenWindow(tokens, positions, down, across, sums_to_one)


def _window(label: str, key: str, count: int) -> slice:
    last = count - WINDOW + 1
    if st.session_state.get(key, 1) not in range(1, last + 1):
        st.session_state[key] = last  # of a longer sentence
    first = st.slider(f"{label}: {WINDOW} of {count}, from number", 1, last, key=key, bind="query-params")
    return slice(first - 1, first - 1 + WINDOW)


def stretched() -> bool:
    """Whether colours end at the largest value and go by the square root."""
    return bool(st.session_state.get(STRETCH, True))


def describe(window: TokenWindow) -> str:
    """What is drawn, as a sentence."""
    hidden = len(window.tokens) - len(window.positions)
    text = f"{len(window.tokens)} tokens"
    if hidden:
        how = "each row divided by the sum of the rest" if window.sums_to_one else "numbers not renormalised"
        text += f", {hidden} special tokens hidden ({how})"
    if len(window.rows) < len(window.positions):
        text += f"; rows: tokens {window.down.start + 1} to {window.down.stop}, "
        text += f"columns: tokens {window.across.start + 1} to {window.across.stop}"
    return f"{text}."
