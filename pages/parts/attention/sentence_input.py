"""The sentence that is looked at: typed, one of the samples, or a row of the dev split. It stands in the address."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kdcore.store import RunRow
from pages.parts.common import cached, cards
from pages.parts.common.text import one_line

LONGEST_TEXT = 600
SAMPLES = 3
BOXES = ("s", "s2")
"""Keys of the boxes, in the address too."""


def sentences(row: RunRow) -> tuple[str, str | None]:
    """The sentence, and the second one where the run's task has pairs."""
    texts: tuple[Sequence[str], ...] = ((),)
    with cards.guarded("The rows of this task are not here; type a sentence"):
        texts = _dev(row)
    _begin(row, texts)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(texts[0]):
            _offer(texts)
    sentence = st.text_input("Sentence", key=BOXES[0], max_chars=LONGEST_TEXT, bind="query-params")
    if len(texts) < 2 and not st.session_state.get(BOXES[1]):
        return sentence[:LONGEST_TEXT], None
    second = st.text_input("Second sentence", key=BOXES[1], max_chars=LONGEST_TEXT, bind="query-params")
    return sentence[:LONGEST_TEXT], second[:LONGEST_TEXT] or None


def _dev(row: RunRow) -> tuple[Sequence[str], ...]:
    """The columns of the first dev split."""
    own = row.config.own.model_dump_json() if row.config.own else None
    data = cached.rows(row.config.task, own)
    found: tuple[Sequence[str], ...] = data.splits[data.task.splits[0]].texts
    return found


def _begin(row: RunRow, texts: tuple[Sequence[str], ...]) -> None:
    """A sample of the task in the boxes, where nothing else was asked for."""
    before = st.session_state.get("attention_for")
    st.session_state["attention_for"] = row.task
    asked = BOXES[0] in st.query_params or st.session_state.get(BOXES[0])
    if before == row.task or (before is None and asked) or not len(texts[0]):
        return
    _put(texts, samples(texts)[0])


def _offer(texts: tuple[Sequence[str], ...]) -> None:
    """Samples and the rows of the dev split."""
    st.pills(
        "Samples",
        samples(texts),
        key="attention_sample",
        format_func=lambda at: one_line(texts[0][at], 48),
        on_change=_from_box,
        args=(texts, "attention_sample"),
    )
    st.number_input(
        "Or dev row",
        0,
        len(texts[0]) - 1,
        value=None,
        step=1,
        key="attention_row",
        placeholder=f"0 to {len(texts[0]) - 1:,}",
        width=160,
        on_change=_from_box,
        args=(texts, "attention_row"),
    )


def samples(texts: tuple[Sequence[str], ...]) -> list[int]:
    """Numbers of a few rows that are long among the first ones."""
    first = range(min(len(texts[0]), 200))
    return sorted(first, key=lambda row: -len(texts[0][row]))[5 : 5 + SAMPLES] or list(first)[:SAMPLES]


def _from_box(texts: tuple[Sequence[str], ...], key: str) -> None:
    at = st.session_state.get(key)
    if isinstance(at, int) and 0 <= at < len(texts[0]):
        _put(texts, at)


def _put(texts: tuple[Sequence[str], ...], at: int) -> None:
    for key, words in zip(BOXES, [texts[0][at], texts[1][at] if len(texts) > 1 else ""], strict=True):
        st.session_state[key] = str(words)[:LONGEST_TEXT]
