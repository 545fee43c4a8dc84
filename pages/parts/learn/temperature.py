"""Temperature: what it does to the predictions of teacher and student on one row, or to logits of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import palette
from kdcore.figures.curves import split_title
from kdcore.paths import run_dir
from kdcore.probes.fidelity import divergence
from kdcore.probes.temperature import entropies
from kdcore.store import RunRow
from pages.parts.common import cards
from pages.parts.common.keys import JOB
from pages.parts.common.run_labels import run_label
from pages.parts.common.run_picker import the_store
from pages.parts.common.selection import remember
from pages.parts.common.text import one_line, plain
from pages.parts.examples import predictions
from pages.parts.examples.predictions import DevRows, Predictions
from pages.parts.learn import softening, typed_logits

ROWS_OFFERED = 40
ORDERS = {
    "apart": "Teacher and student differ most",
    "unsure": "Teacher least confident",
    "sure": "Teacher most confident",
}


def show() -> None:
    st.markdown(
        "A teacher's logits become probabilities by a softmax. Divided by a temperature **T** first, they become "
        "softer: what the teacher thinks of the wrong classes becomes visible. Soft targets compare both at the same T."
    )
    runs = _runs()
    if runs.empty:
        cards.empty("**No finished run with a teacher yet**, so type logits of your own.", "start", "Go to Start")
        typed_logits.show()
        return
    sources = {"run": "A row of a finished run", "typed": "Logits of my own"}
    source = st.segmented_control(
        "Logits from", list(sources), key="learn_source", default="run", required=True, format_func=sources.__getitem__
    )
    if source == "typed":
        typed_logits.show()
        return
    columns = st.columns([2, 1, 1])
    with columns[0]:
        run = _run(runs)
    with cards.guarded("The predictions of this run cannot be read"):
        _row(the_store().get(run), *columns[1:])


def _runs() -> pd.DataFrame:
    """Finished runs with a teacher and predictions; a regression task has no softmax to soften."""
    runs = the_store().runs(include_archived=True)
    runs = runs[(runs["state"] == "done") & (runs["teachers"] != "") & ~runs["metric"].isin(["pearson", "spearman"])]
    return runs[[(run_dir(run) / "predictions").is_dir() for run in runs["id"]]]


def _run(runs: pd.DataFrame) -> str:
    ids = list(runs["id"])
    wanted = st.query_params.get(JOB) or st.session_state.get(JOB)
    labels = {row["id"]: run_label(row) for _, row in runs.iterrows()}
    st.session_state["learn_answers"] = wanted if wanted in ids else ids[0]
    run: str = st.selectbox(
        "Run", ids, key="learn_answers", format_func=lambda run: labels.get(run, run), on_change=_remember_run
    )
    return run


def _remember_run() -> None:
    remember(st.session_state["learn_answers"])


def _row(row: RunRow, order_column: Any, teacher_column: Any) -> None:
    """One dev row of the run; the columns take the order of the rows and the teacher."""
    by_split = {split: both for split, both in predictions.read(row.id).items() if both.teachers}
    if not by_split:
        cards.empty("This run kept no predictions of a teacher.")
        return
    cards.badges(row.task, row.facts.get("partial"))
    split, both = next(iter(by_split.items()))
    dev = predictions.dev_rows(row.config, row.facts, split, both)
    order = order_column.selectbox("Rows first", list(ORDERS), key="learn_order", format_func=ORDERS.__getitem__)
    teacher = teacher_column.selectbox("Teacher", list(both.teachers), key="learn_teacher")
    teacher = teacher if teacher in both.teachers else next(iter(both.teachers))
    index = st.selectbox(
        "Row",
        _order(both, teacher, order),
        key=f"learn_row_{row.id}_{order}",
        format_func=lambda index: _row_label(dev, both, index),
    )
    with st.container(border=True, key="learn_sentence"):
        for text in dev.texts.iloc[index]:
            st.text(one_line(text, 600))
        if dev.why:
            st.caption(f"The sentence cannot be shown: {plain(dev.why, 300)}")
        trained = row.config.options.get("temperature")
        st.caption(
            f"Gold label: **{plain(dev.task.labels[int(both.gold[index])])}** · {split_title(split)} split, row "
            f"{index + 1} of {len(both.ids)}" + (f" · the student was trained at T = {trained:g}" if trained else "")
        )
    color = palette.style(row.method, cards.dark()).color
    softening.show(both.teachers[teacher][index], both.student[index], dev.task.labels, color)


def _order(both: Predictions, teacher: str, order: str) -> list[int]:
    """Indices of the first rows in this order."""
    teacher_logits, student_logits = (
        np.asarray(logits, np.float64) for logits in (both.teachers[teacher], both.student)
    )
    entropy = entropies(teacher_logits)
    keys = {"apart": -divergence(teacher_logits, student_logits), "unsure": -entropy, "sure": entropy}
    return [int(index) for index in np.argsort(keys[order], kind="stable")[:ROWS_OFFERED]]


def _row_label(dev: DevRows, both: Predictions, index: int) -> str:
    texts = " ‖ ".join(str(text) for text in dev.texts.iloc[index])
    return f"{dev.task.labels[int(both.gold[index])]}: {one_line(texts, 90)}" if texts else f"row {index + 1}"
