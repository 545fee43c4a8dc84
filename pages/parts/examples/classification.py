"""Two models on a task with labels: who predicts what, the rows of one cell, and calibration."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from kdcore.figures import examples as figures
from kdcore.probes import examples, fidelity
from kdcore.probes.examples import OUTCOMES
from pages.parts.common import cards
from pages.parts.common.keys import MATRIX, OTHER_LABEL, OUTCOME, STUDENT_LABEL
from pages.parts.common.plot import Click
from pages.parts.common.text import one_line, plain, sentence
from pages.parts.examples import calibration, row_table
from pages.parts.examples.predictions import Pair

MATRICES = {"fates": "Right or wrong", "labels": "Label by label"}
"""Value of `?matrix=` -> what the matrix shows."""
OF_STUDENTS = {"lost": "only the other right", "gained": "only this student right"}
"""Outcome -> its name where two students are compared: neither has lost what the other knew."""
OUTCOME_ORDER = ("lost", "gained", "both wrong", "both right")

Cell = tuple[int, int]


def show(pair: Pair) -> None:
    rows = examples.compare_labels(pair.predictions.ids, pair.predictions.gold, pair.other.logits, pair.student.logits)
    _metrics(pair, rows)
    picture, choice = st.columns([5, 4], gap="large")
    with choice:
        by = st.segmented_control(
            "Matrix",
            list(MATRICES),
            key=MATRIX,
            bind="query-params",
            default="fates",
            required=True,
            format_func=lambda key: MATRICES.get(key, key),
        )
        listed, cell, title = _by_label(pair, rows) if by == "labels" else _by_outcome(pair, rows)
    with picture:
        _matrix(pair, rows, by == "labels", cell)
    st.subheader(f"{title}: {row_table.count(len(listed))}", anchor=False)
    measures = rows[["drop"]]
    if len(pair.teachers) > 1:
        measures = measures.assign(disagreement=examples.disagreement(model.logits for model in pair.teachers))
    row_table.show(listed.index, pair, measures)
    calibration.show(pair)


def _metrics(pair: Pair, rows: pd.DataFrame) -> None:
    right = {name: (rows[name] == rows["gold"]).mean() for name in ("reference", "student")}
    likeness = fidelity.compare(pair.other.logits, pair.student.logits, regression=False)
    other = sentence(one_line(pair.other.name, 30)).removesuffix(".")
    numbers = (
        ("Student right", f"{100 * right['student']:.1f}%", "The student's accuracy on these rows"),
        (f"{other} right", f"{100 * right['reference']:.1f}%", "The accuracy of the other model on these rows"),
        ("Same label", f"{100 * likeness['agreement']:.1f}%", "Rows on which both predict the same, right or wrong"),
        ("KL (nats)", f"{likeness['kl']:.3f}", "KL(other || student), mean over rows; 0: the same probabilities"),
    )
    with st.container(horizontal=True, key="examples_facts"):
        for label, value, text in numbers:
            st.metric(label, value, help=text, border=True, width="stretch")


def _by_outcome(pair: Pair, rows: pd.DataFrame) -> tuple[pd.DataFrame, Cell, str]:
    """The rows of the chosen outcome, its cell, and the list's title."""
    outcome = st.segmented_control(
        "Rows",
        OUTCOME_ORDER,
        key=OUTCOME,
        bind="query-params",
        default="lost",
        required=True,
        format_func=lambda outcome: _title(pair, outcome).capitalize(),
        help="Lost: the student is wrong where its teacher is right. Gained: the other way round"
        if _taught(pair)
        else None,
    )
    outcome = outcome if outcome in OUTCOMES else "lost"
    return examples.with_outcome(rows, outcome), divmod(OUTCOMES.index(outcome), 2), _title(pair, outcome).capitalize()


def _taught(pair: Pair) -> bool:
    """Whether a student stands beside a teacher, from whom it can have lost or gained something."""
    return pair.other.method == "teacher"


def _title(pair: Pair, outcome: str) -> str:
    return outcome if _taught(pair) else OF_STUDENTS.get(outcome, outcome)


def _by_label(pair: Pair, rows: pd.DataFrame) -> tuple[pd.DataFrame, Cell, str]:
    """The rows of the chosen pair of labels, its cell, and the list's title."""
    labels = list(pair.dev.task.labels)
    # where nothing is chosen yet: the pair of different labels that is most frequent
    counts = examples.count_labels(rows, labels).to_numpy()
    pairs = ((r, c) for r in range(len(labels)) for c in range(len(labels)) if r != c)
    default = max(pairs, key=lambda cell: counts[cell])
    left, right = st.columns(2)
    other = left.selectbox("Other predicts", labels, index=default[0], key=OTHER_LABEL, bind="query-params")
    student = right.selectbox("Student predicts", labels, index=default[1], key=STUDENT_LABEL, bind="query-params")
    cell = (labels.index(other), labels.index(student)) if {other, student} <= set(labels) else default
    title = f"Other {plain(labels[cell[0]], 40)}, student {plain(labels[cell[1]], 40)}"
    return examples.with_answers(rows, *cell), cell, title


def _matrix(pair: Pair, rows: pd.DataFrame, by_label: bool, cell: Cell) -> None:
    labels = pair.dev.task.labels
    verb = "predicts" if by_label else "is"
    counts = examples.count_labels(rows, labels) if by_label else examples.count_outcomes(rows)
    draw = partial(
        figures.matrix,
        counts,
        f"{one_line(pair.other.name, 32)} {verb}",
        f"{one_line(pair.student.name, 32)} {verb}",
        outcomes=() if by_label else [_title(pair, outcome) for outcome in OUTCOMES],
        chosen=cell,
        dark=cards.dark(),
    )
    cards.figure(
        draw,
        f"examples_{'labels' if by_label else 'fates'}",
        f"{pair.data_text()}. Click a cell to list its rows.",
        on_click=partial(_choose_labels, labels) if by_label else _choose_outcome,
    )


def _choose_outcome(click: Click) -> None:
    if click.row is not None and click.column is not None:
        st.session_state[OUTCOME] = OUTCOMES[2 * click.row + click.column]


def _choose_labels(labels: tuple[str, ...], click: Click) -> None:
    if click.row is not None and click.column is not None:
        st.session_state[OTHER_LABEL], st.session_state[STUDENT_LABEL] = labels[click.row], labels[click.column]
