"""A temperature to turn: what it does to the answers that teacher and student gave on one row."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.errors import UserError
from kdcore.figures import palette, temperature
from kdcore.figures.curves import split_title
from kdcore.paths import run_dir
from kdcore.probes.fidelity import divergence
from kdcore.probes.temperature import Softened, entropies, soften
from kdcore.store import RunRow
from pages.parts.common import cards
from pages.parts.common.run_picker import remember, run_words, the_store
from pages.parts.common.text import one_line, plain
from pages.parts.examples import predictions
from pages.parts.examples.predictions import Answered, Dev

ROWS_OFFERED = 40
MOST_CLASSES = 12
TEACHER_TYPED, STUDENT_TYPED = "4.0, 1.5, -1.0", "2.0, 0.5, 0.2"
ORDERS = {
    "apart": "Teacher and student differ most",
    "unsure": "Teacher least sure",
    "sure": "Teacher most sure",
}
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?")


def show() -> None:
    st.markdown(
        "A teacher's logits become probabilities by a softmax. Divided by a temperature **T** first, they become "
        "softer: what the teacher thinks of the wrong classes comes to light. Soft targets compare both at the same T."
    )
    runs = _runs()
    sources = {"run": "A row of a finished run", "typed": "Logits of my own"}
    if runs.empty:
        cards.empty("**No finished run with a teacher yet**, so type logits of your own.", "start", "Go to Start")
        _typed()
        return
    source = st.segmented_control(
        "Logits from", list(sources), key="learn_source", default="run", required=True, format_func=sources.__getitem__
    )
    if source == "typed":
        _typed()
        return
    places = st.columns([2, 1, 1])
    with places[0]:
        run = _run(runs)
    with cards.guarded("The answers of this run cannot be read"):
        _row(the_store().get(run), *places[1:])


def _runs() -> pd.DataFrame:
    """Finished runs with a teacher and answers kept; where scores are asked for, there is no softmax to soften."""
    runs = the_store().runs(include_archived=True)
    runs = runs[(runs["state"] == "done") & (runs["teachers"] != "") & ~runs["metric"].isin(["pearson", "spearman"])]
    return runs[[(run_dir(run) / "predictions").is_dir() for run in runs["id"]]]


def _run(runs: pd.DataFrame) -> str:
    ids = list(runs["id"])
    wanted = st.query_params.get("job") or st.session_state.get("job")
    named = {row["id"]: run_words(row) for _, row in runs.iterrows()}
    st.session_state["learn_answers"] = wanted if wanted in ids else ids[0]
    picked: str = st.selectbox(
        "Run", ids, key="learn_answers", format_func=lambda run: named.get(run, run), on_change=_picked
    )
    return picked


def _picked() -> None:
    remember(st.session_state["learn_answers"])


def _row(row: RunRow, middle: Any, right: Any) -> None:
    """One row of the run; where in the line of the run stand the order of the rows and the teacher."""
    found = {split: said for split, said in predictions.of_run(row.id).items() if said.teachers}
    if not found:
        cards.empty("This run has kept no teacher's answers.")
        return
    cards.badges(row.task, row.facts.get("partial"))
    split = next(iter(found))
    said = found[split]
    dev = predictions.dev(row.config, split, said)
    order = middle.selectbox("Rows first", list(ORDERS), key="learn_order", format_func=ORDERS.__getitem__)
    teacher = right.selectbox("Teacher", list(said.teachers), key="learn_teacher")
    teacher = teacher if teacher in said.teachers else next(iter(said.teachers))
    at = st.selectbox(
        "Row",
        _ordered(said, teacher, order),
        key=f"learn_row_{row.id}_{order}",
        format_func=lambda at: _row_words(dev, said, at),
    )
    with st.container(border=True, key="learn_sentence"):
        for text in dev.texts.iloc[at]:
            st.text(one_line(text, 600))
        if dev.why:
            st.caption(f"The sentence is not shown: {plain(dev.why, 300)}")
        trained = row.config.options.get("temperature")
        st.caption(
            f"Gold label: **{plain(dev.task.labels[int(said.gold[at])])}** · {split_title(split)} split, row {at + 1} "
            f"of {len(said.ids)}" + (f" · the student was trained at T = {trained:g}" if trained else "")
        )
    look = palette.style(row.method, cards.dark())
    _turn(said.teachers[teacher][at], said.student[at], dev.task.labels, look.color)


def _ordered(said: Answered, teacher: str, order: str) -> list[int]:
    """The first rows in this order."""
    theirs, ours = (np.asarray(logits, np.float64) for logits in (said.teachers[teacher], said.student))
    unsure = entropies(theirs)
    first = {"apart": -divergence(theirs, ours), "unsure": -unsure, "sure": unsure}[order]
    return [int(at) for at in np.argsort(first, kind="stable")[:ROWS_OFFERED]]


def _row_words(dev: Dev, said: Answered, at: int) -> str:
    texts = " ‖ ".join(str(text) for text in dev.texts.iloc[at])
    return f"{dev.task.labels[int(said.gold[at])]}: {one_line(texts, 90)}" if texts else f"row {at + 1}"


def _typed() -> None:
    left, right = st.columns(2)
    words = "Numbers, separated by commas; one a class"
    first = left.text_input("Teacher's logits", TEACHER_TYPED, key="learn_t_logits", max_chars=200, help=words)
    second = right.text_input("Student's logits", STUDENT_TYPED, key="learn_s_logits", max_chars=200, help=words)
    try:
        teacher, student = read(first, "teacher"), read(second, "student")
        if len(teacher) != len(student):
            raise UserError("logits", f"{len(teacher)} numbers against {len(student)}", "give both the same classes")
    except UserError as error:
        cards.problem(error, "These are no logits")
        return
    labels = tuple(f"class {number}" for number in range(1, len(teacher) + 1))
    _turn(teacher, student, labels, palette.FAMILIES["soft_targets"][cards.dark()])


def read(text: str, whose: str) -> list[float]:
    """Typed logits.

    Raises:
        UserError: not 2 to 12 numbers, or numbers beyond ±100.
    """
    parts = [part for part in re.split(r"[,;\s]+", text.strip()) if part]
    wrong = next((part for part in parts if not _NUMBER.fullmatch(part) or abs(float(part)) > 100), None)
    if wrong is not None:
        raise UserError(whose, f"{wrong[:20]!r} is no number from -100 to 100", "write numbers such as 2.5, 0, -1")
    if not 2 <= len(parts) <= MOST_CLASSES:
        raise UserError(whose, f"{len(parts)} numbers", f"give 2 to {MOST_CLASSES}, separated by commas")
    return [float(part) for part in parts]


def _turn(teacher: Any, student: Any, labels: tuple[str, ...], color: str) -> None:
    """The slider, the bars, and the numbers."""
    t = st.slider(
        "Temperature T", temperature.COLDEST, temperature.HOTTEST, 2.0, 0.5, key="T", bind="query-params",
        help="1: the models' own probabilities; higher: flatter",
    )  # fmt: skip
    t = min(max(float(t or 1.0), temperature.COLDEST), temperature.HOTTEST)
    now, plainly = soften(teacher, student, t), soften(teacher, student, 1.0)
    _values(now, len(labels))
    dark = cards.dark()
    left, right = st.columns([3, 2], gap="medium")
    with left:
        table = pd.DataFrame({"class": labels, "teacher": now.teacher, "student": now.student})
        cards.figure(
            partial(temperature.bars, now, plainly, labels, color, dark),
            "learn_bars",
            f"Probabilities at T = {t:g}; outlines: at T = 1. The order of the classes never changes.",
            data=table,
        )
    with right:
        cards.figure(
            partial(temperature.pull, teacher, student, t, color, dark),
            "learn_pull",
            "The soft term of this row over T. T² keeps its gradient in size; for a large T the term is a squared "
            "error between centred logits (Hinton et al. 2015, section 2.1).",
        )


def _values(now: Softened, classes: int) -> None:
    most = f"of at most {np.log(classes):.2f}"
    numbers = [
        ("Teacher's entropy", f"{now.teacher_entropy:.3f}", most),
        ("Student's entropy", f"{now.student_entropy:.3f}", most),
        ("KL(teacher ‖ student)", f"{now.kl:.4g}", "at this T"),
        ("T² · KL", f"{now.loss:.4g}", "the soft term"),
    ]
    with st.container(horizontal=True, key="learn_values"):
        for label, value, more in numbers:
            st.metric(label, value, help=f"In nats, {more}", border=True, width="stretch")
