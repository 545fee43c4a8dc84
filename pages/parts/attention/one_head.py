"""One head in detail: the student's, the teacher's, and their difference."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.figures import attention
from pages.parts.attention import token_window
from pages.parts.attention.panels import HOW, Head, Panel, scale_text
from pages.parts.attention.token_window import TokenWindow
from pages.parts.common import cards
from pages.parts.common.numbers import numbers
from pages.parts.common.text import listed, plain


def distance_text(divergences: NDArray[np.float64], student: Head, teacher: Head, nearest: bool) -> str:
    """How far the two heads are. divergences: [teacher layers, teacher heads, student layers, student heads]."""
    (layer, head), (t_layer, t_head) = student, teacher
    value = divergences[t_layer - 1, t_head - 1, layer - 1, head - 1]
    choice = "the nearest of all" if nearest else "chosen here"
    return (
        f"Student head **{layer}.{head}** beside teacher head **{t_layer}.{t_head}**, {choice}: "
        f"divergence **{value:.4f}** nats."
    )


def show(panels: list[Panel], window: TokenWindow, top: float, note: str) -> None:
    rows, columns = window.rows, window.columns
    hover = _hover_texts(panels)
    for panel, column in zip(panels, st.columns(max(2, len(panels))), strict=False):
        with column:
            cards.figure(
                partial(
                    attention.head, panel.head_map, rows, columns, panel.head_title,
                    top=top, labels=hover, signed=panel.signed, dark=cards.dark(),
                ),
                f"attention_head_{panel.key}",
            )  # fmt: skip
    st.caption(
        f"Rows attend to columns; point at a cell for its numbers. {scale_text(panels, top)} "
        f"{token_window.describe(window)} {note} "
        f"Tokens: {plain(listed(window.tokens, 128), 1200)}"
    )
    table = pd.DataFrame(
        {
            "from": [token for token in rows for _ in columns],
            "to": columns * len(rows),
            **{panel.head_title: panel.head_map.ravel() for panel in panels},
        }
    )
    numbers(table, "attention_head", HOW)


def _hover_texts(panels: list[Panel]) -> NDArray[np.str_] | None:
    """For each cell, the values of all three panels."""
    if len(panels) < 3:
        return None
    cells = zip(*(panel.head_map.ravel() for panel in panels), strict=True)
    texts = [f"<br>teacher {t:.3f}, student {s:.3f}, difference {d:+.3f}" for t, s, d in cells]
    return np.array(texts).reshape(panels[0].head_map.shape)
