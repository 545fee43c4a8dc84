"""Two models on a task of labels: who says what, the rows of one cell, and whether confidence can be believed."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from kdcore.figures import examples as figures
from kdcore.probes import calibration, examples, fidelity
from kdcore.probes.examples import FATES
from pages.parts.common import cards
from pages.parts.common.plot import Click
from pages.parts.common.text import one_line, plain
from pages.parts.examples import row_table
from pages.parts.examples.predictions import Pair

MATRICES = {"fates": "Right or wrong", "labels": "Label by label"}
LISTED = ("lost", "gained", "both wrong", "both right")
HOW = (
    "ECE is the mean over rows of |share right − mean confidence| of the row's bin, 15 bins of equal width (Guo et al. "
    "2017, equation 3). Brier score: squared distance between the probabilities and the one-hot gold label, summed "
    "over labels, mean over rows (Brier 1950)."
)

Cell = tuple[int, int]


def show(pair: Pair) -> None:
    judged = examples.judged(pair.answers.ids, pair.answers.gold, pair.other.logits, pair.student.logits)
    _facts(pair, judged)
    picture, choice = st.columns([5, 4], gap="large")
    with choice:
        by = st.segmented_control(
            "Matrix",
            list(MATRICES),
            key="matrix",
            bind="query-params",
            default="fates",
            required=True,
            format_func=lambda key: MATRICES.get(key, key),
        )
        found, cell, words = _by_label(pair, judged) if by == "labels" else _by_fate(judged)
    with picture:
        _matrix(pair, judged, by == "labels", cell)
    st.subheader(f"{words}: {row_table.count(len(found))}", anchor=False)
    measures = judged[["drop"]]
    if len(pair.teachers) > 1:
        measures = measures.assign(disagreement=examples.disagreement(model.logits for model in pair.teachers))
    row_table.show(found.index, pair, measures)
    _calibration(pair)


def _facts(pair: Pair, judged: pd.DataFrame) -> None:
    right = {name: (judged[name] == judged["gold"]).mean() for name in ("reference", "student")}
    same = fidelity.compare(pair.other.logits, pair.student.logits, regression=False)
    numbers = (
        ("Student right", f"{100 * right['student']:.1f} %", "The student's accuracy on these rows"),
        ("Other right", f"{100 * right['reference']:.1f} %", "Accuracy of the model it is compared with, same rows"),
        ("Same label", f"{100 * same['agreement']:.1f} %", "Rows on which both say the same, right or wrong"),
        ("KL (nats)", f"{same['kl']:.3f}", "KL(other || student), mean over rows; 0: the same probabilities"),
    )
    with st.container(horizontal=True, key="examples_facts"):
        for label, value, words in numbers:
            st.metric(label, value, help=words, border=True, width="stretch")


def _by_fate(judged: pd.DataFrame) -> tuple[pd.DataFrame, Cell, str]:
    """The rows of the chosen fate, its cell, and the list's title."""
    fate = st.segmented_control(
        "Rows",
        LISTED,
        key="fate",
        bind="query-params",
        default="lost",
        required=True,
        format_func=str.capitalize,
        help="Lost: the student is wrong where the other is right. Gained: the other way round",
    )
    fate = fate if fate in FATES else "lost"
    return examples.with_fate(judged, fate), divmod(FATES.index(fate), 2), fate.capitalize()


def _by_label(pair: Pair, judged: pd.DataFrame) -> tuple[pd.DataFrame, Cell, str]:
    """The rows of the chosen pair of answers, its cell, and the list's title."""
    labels = list(pair.dev.task.labels)
    # where nothing is chosen yet: the pair of different labels that is most frequent
    counts = examples.by_label(judged, labels).to_numpy()
    first = max(((r, c) for r in range(len(labels)) for c in range(len(labels)) if r != c), key=lambda at: counts[at])
    left, right = st.columns(2)
    theirs = left.selectbox("Other says", labels, index=first[0], key="osays", bind="query-params")
    ours = right.selectbox("Student says", labels, index=first[1], key="ssays", bind="query-params")
    cell = (labels.index(theirs), labels.index(ours)) if {theirs, ours} <= set(labels) else first
    words = f"Other {plain(labels[cell[0]], 40)}, student {plain(labels[cell[1]], 40)}"
    return examples.with_answers(judged, *cell), cell, words


def _matrix(pair: Pair, judged: pd.DataFrame, by_label: bool, cell: Cell) -> None:
    labels = pair.dev.task.labels
    verb = "says" if by_label else "is"
    counts = examples.by_label(judged, labels) if by_label else examples.by_fate(judged)
    draw = partial(
        figures.matrix,
        counts,
        f"{one_line(pair.other.name, 32)} {verb}",
        f"{one_line(pair.student.name, 32)} {verb}",
        fates=not by_label,
        chosen=cell,
        dark=cards.dark(),
    )
    cards.figure(
        draw,
        f"examples_{'labels' if by_label else 'fates'}",
        f"{pair.about()}. Click a cell to list its rows.",
        on_click=partial(_take_labels, labels) if by_label else _take_fate,
    )


def _take_fate(click: Click) -> None:
    if click.row is not None and click.column is not None:
        st.session_state["fate"] = FATES[2 * click.row + click.column]


def _take_labels(labels: tuple[str, ...], click: Click) -> None:
    if click.row is not None and click.column is not None:
        st.session_state["osays"], st.session_state["ssays"] = labels[click.row], labels[click.column]


def _calibration(pair: Pair) -> None:
    st.subheader("Can their confidence be believed?", anchor=False)
    measured = [
        (model.name, model.method, calibration.measure(model.logits, pair.answers.gold))
        for model in (pair.other, pair.student)
    ]
    bins = [{"model": name, **vars(bin)} for name, _, found in measured for bin in found.bins if bin.rows]
    dark = cards.dark()
    cards.figure(
        lambda: figures.reliability(measured, dark),
        "examples_reliability",
        f"{pair.about()}; larger marks hold more rows, faint ones fewer than {figures.FEWEST_ROWS}. Under the dotted "
        "line a model is surer than it is right. ECE: mean distance from that line. Brier: squared error of the "
        "probabilities, 0 is perfect.",
        data=pd.DataFrame(bins),
        how=HOW,
    )
