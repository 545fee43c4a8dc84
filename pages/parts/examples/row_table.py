"""A list of dev rows with what each model said, as a table and a file, and the chosen row in full."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.probes.examples import listing
from pages.parts.common.csv_file import csv_bytes
from pages.parts.common.text import plain
from pages.parts.examples import try_sentence
from pages.parts.examples.predictions import Pair

MOST_ROWS = 2000
"""Rows in one list: browsers take no more at ease."""
MEASURES = {
    "drop": "p(gold) of the other − p(gold) of the student",
    "disagreement": "Of the teachers: Jensen-Shannon divergence in nats, 0 where they agree",
    "difference": "Student − other",
    "farther from gold": "|student − gold| − |other − gold|",
}
"""Measure of a row -> how it is read."""


def count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def table(pair: Pair, measures: pd.DataFrame) -> pd.DataFrame:
    """All rows of the split, by id. measures: some of `MEASURES`, by id."""
    return listing(pair.dev.texts, pair.answers.gold, pair.said(), pair.dev.task.labels, measures)


def show(found: pd.Index, pair: Pair, measures: pd.DataFrame) -> None:
    """Draws the list. found: ids of its rows, in order."""
    if found.empty:
        st.caption("No row is of this kind.")
        return
    shown = table(pair, measures).loc[found[:MOST_ROWS]]
    ids = shown.index.to_numpy().tobytes()
    picked = st.dataframe(
        shown,
        key=f"examples_table_{hashlib.sha256(ids).hexdigest()[:12]}",  # a selection is kept by position
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [0]}},
        alt="Rows of the dev split with gold label and what each model said",
        column_config=dict(zip(shown.columns, _looks(pair, measures), strict=True)),
    )
    order = "Largest fall of confidence first; of the gained, the largest rise." if pair.dev.task.labels else ""
    rest = "" if len(shown) == len(found) else f" The first {MOST_ROWS:,} are listed."
    st.caption(f"{order}{rest} Choose a row to see it in full below.")
    st.download_button(
        "Download this list (CSV)",
        lambda: csv_bytes(shown),
        "examples.csv",
        "text/csv",
        key="examples_csv",
        icon=":material/download:",
    )
    places = [place for place in picked["selection"]["rows"] if place < len(shown)]
    with st.container(border=True, key="examples_row"):
        _one(int(shown.index[places[0] if places else 0]), pair)


def _looks(pair: Pair, measures: pd.DataFrame) -> list[Any]:
    """How each column of the list stands: narrow, so that the answers are seen beside the sentences."""
    column, number = st.column_config.Column, st.column_config.NumberColumn
    texts = pair.dev.texts.columns
    looks: list[Any] = [number(format="%d", width=55, help="Number in the dev split, from 0")]
    looks += [column(width=140 if len(texts) > 1 else 300)] * len(texts)
    looks += [column(width=95)]
    for model in pair.said():
        labels = [column(width=95, help=model), number("p(gold)", format="%.3f", width=65, help=model)]
        looks += labels if pair.dev.task.labels else [number(format="%.2f", width=95, help=model)]
    return looks + [number(format="%.3f", width=80, help=MEASURES.get(str(name))) for name in measures]


def _one(example: int, pair: Pair) -> None:
    """One row in full: sentences, gold label, what every model said."""
    place = list(pair.dev.texts.index).index(example)
    sentences = [str(words) for words in pair.dev.texts.iloc[place]]
    gold, labels = pair.answers.gold[place], pair.dev.task.labels
    words = labels[int(gold)] if labels else f"{gold:.3g}"
    st.markdown(f"**Row {example % IDS_PER_SPLIT}**, gold: **{plain(words)}**")
    for column, text in zip(pair.dev.texts.columns, sentences, strict=True):
        st.caption(plain(column))
        st.markdown(plain(text, 3000))
    said = {name: logits[place] for name, logits in pair.said().items()}
    try_sentence.draw(pair.dev.task, said if labels else {"gold": [gold]} | said, "examples_bars")
    if not sentences:
        return
    with st.container(horizontal=True):
        st.button(
            "Change it below", key="examples_copy", icon=":material/edit:", on_click=try_sentence.put, args=(sentences,)
        )
        if st.button("See the attention", key="examples_attention", icon=":material/visibility:"):
            _look(pair.dev.task.key, sentences)


def _look(task: str, sentences: list[str]) -> None:
    """Opens Attention on these sentences."""
    st.session_state["attention_for"] = task
    typed = dict(zip(("s", "s2"), (words[: try_sentence.LONGEST_TEXT] for words in sentences), strict=False))
    st.switch_page("pages/attention.py", query_params={**typed, "job": st.session_state["job"]})
