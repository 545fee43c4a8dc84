"""A list of dev rows with each model's prediction, as a table and a file, and the chosen row in full."""

from __future__ import annotations

import hashlib

import pandas as pd
import streamlit as st

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.probes.examples import listing
from pages.parts.common.downloads import downloads
from pages.parts.common.keys import ATTENTION_TASK, EXAMPLES_ROW, JOB, SECOND_SENTENCE, SENTENCE
from pages.parts.common.text import MAX_CHARACTERS, plain
from pages.parts.examples import columns, try_sentence
from pages.parts.examples.predictions import Pair

MOST_ROWS = 2000
"""Rows in one list: more would slow the browser down."""
ROW_HEIGHT = 76
"""Pixels: three lines of a sentence, which wraps."""


def count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def table(pair: Pair, measures: pd.DataFrame) -> pd.DataFrame:
    """All rows of the split, by id. measures: some of `columns.MEASURES`, by id."""
    return listing(pair.dev.texts, pair.predictions.gold, pair.logits(), pair.dev.task.labels, measures)


def show(ids: pd.Index, pair: Pair, measures: pd.DataFrame) -> None:
    """Draws the list. ids: of its rows, in order."""
    if ids.empty:
        st.caption("There are no rows of this kind.")
        return
    rows = table(pair, measures).loc[ids[:MOST_ROWS]]
    digest = hashlib.sha256(rows.index.to_numpy().tobytes()).hexdigest()[:12]
    selected = st.dataframe(
        rows,
        key=f"examples_table_{digest}",  # a selection is kept by position
        hide_index=True,
        row_height=ROW_HEIGHT,
        column_order=columns.order(rows, pair),
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [row_of_address(rows.index)]}},
        alt="Rows of the dev split with gold label and each model's prediction",
        column_config=dict(zip(rows.columns, columns.configs(pair, measures), strict=True)),
    )
    order = "Sorted by the fall in confidence; gained rows by its rise." if pair.dev.task.labels else ""
    rest = "" if len(rows) == len(ids) else f" The first {MOST_ROWS:,} are listed."
    st.caption(f"{order}{rest} Choose a row to see it in full below.")
    downloads(rows, "Download this list", "examples", "examples_", {"task": pair.dev.task.key, "split": "dev"})
    positions = [position for position in selected["selection"]["rows"] if position < len(rows)]
    example = int(rows.index[positions[0] if positions else 0])
    st.query_params[EXAMPLES_ROW] = str(example % IDS_PER_SPLIT)
    with st.container(border=True, key="examples_row"):
        _row(example, pair)


def row_of_address(ids: pd.Index) -> int:
    """The place of the dev row that the address names; else the first."""
    numbers = [str(example % IDS_PER_SPLIT) for example in ids]
    asked = st.query_params.get(EXAMPLES_ROW)
    return numbers.index(asked) if asked in numbers else 0


def _row(example: int, pair: Pair) -> None:
    """One row in full: sentences, gold label, every model's prediction."""
    position = list(pair.dev.texts.index).index(example)
    sentences = [str(text) for text in pair.dev.texts.iloc[position]]
    gold, labels = pair.predictions.gold[position], pair.dev.task.labels
    gold_text = labels[int(gold)] if labels else f"{gold:.3g}"
    st.markdown(f"**Row {example % IDS_PER_SPLIT}**, gold: **{plain(gold_text)}**")
    for column, text in zip(pair.dev.texts.columns, sentences, strict=True):
        st.caption(plain(column))
        st.markdown(plain(text, 3000))
    outputs = {name: logits[position] for name, logits in pair.logits().items()}
    try_sentence.draw(pair.dev.task, outputs if labels else {"gold": [gold]} | outputs, "examples_bars")
    if not sentences:
        return
    with st.container(horizontal=True):
        st.button(
            "Edit it below", key="examples_copy", icon=":material/edit:", on_click=try_sentence.put, args=(sentences,)
        )
        if st.button("See the attention", key="examples_attention", icon=":material/visibility:"):
            _open_attention(pair.dev.task.key, sentences)


def _open_attention(task: str, sentences: list[str]) -> None:
    """Opens Attention on these sentences."""
    st.session_state[ATTENTION_TASK] = task
    boxes = dict(zip((SENTENCE, SECOND_SENTENCE), (text[:MAX_CHARACTERS] for text in sentences), strict=False))
    st.switch_page("pages/attention.py", query_params={**boxes, JOB: st.session_state[JOB]})
