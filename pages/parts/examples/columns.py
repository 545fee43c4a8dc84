"""The columns of a list of dev rows: their heads, widths and order."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.common.text import one_line
from pages.parts.examples.predictions import Pair

MEASURES = {
    "drop": "p(gold) of the other − p(gold) of the student",
    "disagreement": "Of the teachers: Jensen-Shannon divergence in nats, 0 where they agree",
    "difference": "Student − other",
    "farther from gold": "|student − gold| − |other − gold|",
}
"""Measure of a row -> what it means."""


def configs(pair: Pair, measures: pd.DataFrame) -> list[Any]:
    """How each column is shown: sentences wrap, labels are whole, a probability says whose it is."""
    column, number = st.column_config.Column, st.column_config.NumberColumn
    texts = pair.dev.texts.columns
    found: list[Any] = [number(format="%d", width=55, help="Number in the dev split, from 0")]
    found += [column(width=150 if len(texts) > 1 else 300)] * len(texts)
    labels = pair.dev.task.labels
    wide = min(160, max([60, *(_width(label) for label in labels)]))
    found += [column(width=wide)]
    for model in pair.logits():
        name = _short(model, pair)
        if labels:
            p = f"p(gold) {name}"
            found += [column(name, width=max(wide, _width(name)), help=model)]
            found += [number(p, format="%.3f", width=_width(p), help=model)]
        else:
            found += [number(name, format="%.2f", width=95, help=model)]
    return found + [number(format="%.3f", width=80, help=MEASURES.get(str(name))) for name in measures]


def _short(model: str, pair: Pair) -> str:
    """A model in a column's head."""
    if model == pair.student.name:
        return "student"
    only = len(pair.teachers) == 1 and pair.other.method == "teacher"
    return "teacher" if only else one_line(model, 24)


def _width(text: str) -> int:
    """Pixels of a column that holds this text whole."""
    return 20 + 7 * len(text)


def order(rows: pd.DataFrame, pair: Pair) -> list[str]:
    """The columns as they are shown: first what the models say, then how sure they are."""
    sure = [name for name in rows.columns if name.endswith(": p(gold)")]
    at = list(rows.columns).index(sure[0]) if sure and pair.dev.task.labels else len(rows.columns)
    rest = [name for name in rows.columns[at:] if name not in sure]
    said = rest[: len(pair.logits()) - 1]
    return [*rows.columns[:at], *said, *sure, *rest[len(said) :]] if at < len(rows.columns) else list(rows.columns)
