"""A list of dev rows with each model's prediction, as a table and a file, and the chosen row in full."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.probes.examples import listing
from pages.parts.common.csv_file import csv_bytes
from pages.parts.common.keys import ATTENTION_TASK, JOB, SECOND_SENTENCE, SENTENCE
from pages.parts.common.text import MAX_CHARACTERS, plain
from pages.parts.examples import try_sentence
from pages.parts.examples.predictions import Pair

MOST_ROWS = 2000
"""Rows in one list: more would slow the browser down."""
MEASURES = {
    "drop": "p(gold) of the other − p(gold) of the student",
    "disagreement": "Of the teachers: Jensen-Shannon divergence in nats, 0 where they agree",
    "difference": "Student − other",
    "farther from gold": "|student − gold| − |other − gold|",
}
"""Measure of a row -> what it means."""


def count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def table(pair: Pair, measures: pd.DataFrame) -> pd.DataFrame:
    """All rows of the split, by id. measures: some of `MEASURES`, by id."""
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
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [0]}},
        alt="Rows of the dev split with gold label and each model's prediction",
        column_config=dict(zip(rows.columns, _column_configs(pair, measures), strict=True)),
    )
    order = "Sorted by the fall in confidence; gained rows by its rise." if pair.dev.task.labels else ""
    rest = "" if len(rows) == len(ids) else f" The first {MOST_ROWS:,} are listed."
    st.caption(f"{order}{rest} Choose a row to see it in full below.")
    st.download_button(
        "Download this list (CSV)",
        lambda: csv_bytes(rows),
        "examples.csv",
        "text/csv",
        key="examples_csv",
        icon=":material/download:",
    )
    positions = [position for position in selected["selection"]["rows"] if position < len(rows)]
    with st.container(border=True, key="examples_row"):
        _row(int(rows.index[positions[0] if positions else 0]), pair)


def _column_configs(pair: Pair, measures: pd.DataFrame) -> list[Any]:
    """How each column is shown: narrow, so that predictions are visible beside the sentences."""
    column, number = st.column_config.Column, st.column_config.NumberColumn
    texts = pair.dev.texts.columns
    configs: list[Any] = [number(format="%d", width=55, help="Number in the dev split, from 0")]
    configs += [column(width=140 if len(texts) > 1 else 300)] * len(texts)
    configs += [column(width=95)]
    for model in pair.logits():
        labels = [column(width=95, help=model), number("p(gold)", format="%.3f", width=65, help=model)]
        configs += labels if pair.dev.task.labels else [number(format="%.2f", width=95, help=model)]
    return configs + [number(format="%.3f", width=80, help=MEASURES.get(str(name))) for name in measures]


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
