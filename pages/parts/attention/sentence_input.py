"""The sentence: typed, one of the samples, or a row of the dev split. It is part of the URL."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kdcore.store import RunRow
from pages.parts.common import cached, cards
from pages.parts.common.keys import ATTENTION_TASK, SECOND_SENTENCE, SENTENCE
from pages.parts.common.text import MAX_CHARACTERS, one_line

SAMPLES = 3
BOXES = (SENTENCE, SECOND_SENTENCE)


def sentences(row: RunRow) -> tuple[str, str | None]:
    """The sentence, and the second one where the run's task has pairs."""
    texts: tuple[Sequence[str], ...] = ((),)
    with cards.guarded("The rows of this task are not here; type a sentence"):
        texts = _dev(row)
    _begin(row, texts)
    pair = len(texts) > 1 or bool(st.session_state.get(SECOND_SENTENCE))
    if len(texts[0]):
        with st.popover("Samples", icon=":material/format_list_bulleted:", key="attention_samples"):
            _offer(texts)
    with st.container(horizontal=True, width=800 if pair else 420):
        sentence = _box("Sentence", SENTENCE)
        second = _box("Second sentence", SECOND_SENTENCE) if pair else ""
    return sentence, second or None


def _box(label: str, key: str) -> str:
    text = st.text_input(
        label,
        key=key,
        max_chars=MAX_CHARACTERS,
        bind="query-params",
        placeholder=label,
        label_visibility="collapsed",
    )
    return text[:MAX_CHARACTERS]


def _dev(row: RunRow) -> tuple[Sequence[str], ...]:
    """The columns of the first dev split."""
    own = row.config.own.model_dump_json() if row.config.own else None
    data = cached.rows(row.config.task, own)
    columns: tuple[Sequence[str], ...] = data.splits[data.task.splits[0]].texts
    return columns


def _begin(row: RunRow, texts: tuple[Sequence[str], ...]) -> None:
    """Fills the boxes with a sample of the task, where the URL or the session has no sentence."""
    before = st.session_state.get(ATTENTION_TASK)
    st.session_state[ATTENTION_TASK] = row.task
    filled = SENTENCE in st.query_params or st.session_state.get(SENTENCE)
    if before == row.task or (before is None and filled) or not len(texts[0]):
        return
    _put(texts, samples(texts)[0])


def _offer(texts: tuple[Sequence[str], ...]) -> None:
    """Samples and the rows of the dev split."""
    st.pills(
        "Samples",
        samples(texts),
        key="attention_sample",
        format_func=lambda row: one_line(texts[0][row], 48),
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
    row = st.session_state.get(key)
    if isinstance(row, int) and 0 <= row < len(texts[0]):
        _put(texts, row)


def _put(texts: tuple[Sequence[str], ...], row: int) -> None:
    for key, text in zip(BOXES, [texts[0][row], texts[1][row] if len(texts) > 1 else ""], strict=True):
        st.session_state[key] = str(text)[:MAX_CHARACTERS]
