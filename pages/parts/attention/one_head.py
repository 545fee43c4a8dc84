"""One head in detail: the teacher's and the student's below each other, as map and as lines, and their difference."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.figures import attention, attention_heads
from pages.parts.attention import token_window
from pages.parts.attention.panels import HOW, Head, Panel, scale_text
from pages.parts.attention.token_window import TokenWindow
from pages.parts.common import cards
from pages.parts.common.keys import HEAD_VIEW
from pages.parts.common.numbers import numbers
from pages.parts.common.text import listed, plain

BOTH, MAP, LINES, DIFFERENCE = "map and lines", "map", "lines", "difference"
POINT = "Point at a cell for its numbers."


def choose_view() -> str:
    view = st.selectbox("View", (BOTH, MAP, LINES, DIFFERENCE), key=HEAD_VIEW, bind="query-params", width=170)
    return view if view in (BOTH, MAP, LINES, DIFFERENCE) else BOTH


def distance_text(divergences: NDArray[np.float64], student: Head, teacher: Head, nearest: bool) -> str:
    """How far the two heads are. divergences: [teacher layers, teacher heads, student layers, student heads]."""
    (layer, head), (t_layer, t_head) = student, teacher
    value = divergences[t_layer - 1, t_head - 1, layer - 1, head - 1]
    choice = "the nearest of all" if nearest else "chosen here"
    return (
        f"Student head **{layer}.{head}** beside teacher head **{t_layer}.{t_head}**, {choice}: "
        f"divergence **{value:.4f}** nats."
    )


def show(panels: list[Panel], window: TokenWindow, view: str, note: str) -> None:
    contrast = token_window.stretched()
    top = attention.shared_top(*(panel.head_map for panel in panels[:2])) if contrast else 1.0
    said = _cell_texts(panels)
    signed = view == DIFFERENCE and len(panels) > 1
    for panel in panels[2:] if signed else panels[:2]:
        places = st.columns([3, 2]) if view == BOTH else [st.container()]
        if view != LINES:
            with places[0]:
                _map(panel, window, top, said, contrast)
        if view in (BOTH, LINES):
            with places[-1]:
                _lines(panel, window, top)
    st.caption(
        f"Rows attend to columns. {scale_text(panels, top, contrast)} {token_window.describe(window)} {note} "
        f"Tokens: {plain(listed(window.tokens, 128), 1200)}"
    )
    table = pd.DataFrame(
        {
            "from": [token for token in window.rows for _ in window.columns],
            "to": window.columns * len(window.rows),
            **{panel.head_title: panel.head_map.ravel() for panel in panels},
        }
    )
    numbers(table, "attention_head", HOW)


def _map(panel: Panel, window: TokenWindow, top: float, said: NDArray[np.str_], contrast: bool) -> None:
    cards.figure(
        partial(
            attention.head, panel.head_map, window.rows, window.columns, panel.head_title,
            top=top, labels=said, signed=panel.signed, contrast=contrast, dark=cards.dark(),
        ),
        f"attention_head_{panel.key}",
        readout=POINT,
    )  # fmt: skip


def _lines(panel: Panel, window: TokenWindow, top: float) -> None:
    cards.figure(
        partial(
            attention_heads.lines, panel.head_map, window.rows, window.columns, f"{panel.head_title}, from → to",
            top=top, dark=cards.dark(),
        ),
        f"attention_lines_{panel.key}",
    )  # fmt: skip


def _cell_texts(panels: list[Panel]) -> NDArray[np.str_]:
    """For each cell, its numbers: of all three panels where there is a teacher."""
    cells = zip(*(panel.head_map.ravel() for panel in panels), strict=True)
    if len(panels) < 3:
        texts = [f"{value:.3f}" for (value,) in cells]
    else:
        texts = [f"teacher {t:.3f}, student {s:.3f}, difference {d:+.3f}" for t, s, d in cells]
    return np.array(texts).reshape(panels[0].head_map.shape)
