"""A typed sentence, classified by the students of several runs and by their teachers."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.errors import UserError
from kdcore.figures import examples
from kdcore.paths import run_dir
from kdcore.probes.examples import distinct, probabilities
from kdcore.tasks import Task
from pages.parts.common import cards
from pages.parts.common.text import MAX_CHARACTERS, plain

MOST_RUNS = 8
"""Models are loaded one after another, and a plot of more bars cannot be read."""

_one_at_a_time = threading.Lock()
"""Logits are read through hooks in the model, and sessions share the models."""


def put(sentences: list[str]) -> None:
    """Fills the boxes, before they are drawn."""
    for key, text in zip(("examples_text", "examples_pair"), [*sentences, ""], strict=False):
        st.session_state[key] = text[:MAX_CHARACTERS]


def show(task: Task, students: Mapping[str, str], tokens: int) -> None:
    """Draws the boxes and the predictions.

    Args:
        students: run id -> name on the screen. tokens: how many a sentence is cut to.
    """
    pairs = len(task.columns) > 1
    st.caption(f"{plain(task.about, 300)} The students of the chosen runs and their teachers read it.")
    label = "First sentence" if pairs else "Sentence"
    sentence = st.text_input(label, key="examples_text", max_chars=MAX_CHARACTERS, persist_state="session")
    pair = ""
    if pairs:
        pair = st.text_input("Second sentence", key="examples_pair", max_chars=MAX_CHARACTERS, persist_state="session")
    if not sentence.strip() or (pairs and not pair.strip()):
        st.caption("Type above and press Enter, or copy a row from the list and change a word.")
        return
    first = dict(list(students.items())[:MOST_RUNS])
    if len(first) < len(students):
        st.caption(f"Only the models of the first {MOST_RUNS} runs read it.")
    outputs: dict[str, Any] = {}
    with st.spinner("The models read the sentence"):
        for name, folder in _models(first).items():
            with cards.guarded(f"{plain(name)} could not be run"):
                when = folder.stat().st_mtime
                outputs[name] = _predict(
                    str(folder), when, sentence[:MAX_CHARACTERS], pair[:MAX_CHARACTERS] or None, tokens
                )
    if outputs:
        draw(task, outputs, "examples_asked")


def draw(task: Task, outputs: Mapping[str, Any], key: str) -> None:
    """Each model's prediction for one sentence. outputs: name -> logits [outputs]. key: of the figure."""
    dark = cards.dark()
    if not task.labels:
        scores = pd.Series({name: float(logits[0]) for name, logits in outputs.items()})
        data = scores.rename("score").rename_axis("model").reset_index()
        cards.figure(lambda: examples.scores(scores, dark), key, data=data)
        return
    rows = [probabilities(logits) for logits in outputs.values()]
    table = pd.DataFrame(rows, index=list(outputs), columns=distinct(task.labels))
    cards.figure(lambda: examples.probabilities(table, dark), key, data=table.rename_axis("model").reset_index())


def _models(students: Mapping[str, str]) -> dict[str, Path]:
    """Name -> model folder: each run's teachers, one that several runs share once, then the students."""
    from kdcore.engine import results

    teachers: dict[Path, str] = {}
    for run in students:
        for name, folder in results.teacher_folders(run_dir(run)).items():
            teachers.setdefault(folder, f"teacher {name}")
    kept = {run: run_dir(run) / "student-best" for run in students}
    missing = [students[run] for run, folder in kept.items() if not folder.is_dir()]
    if missing:
        st.caption(f"No student was kept by: {', '.join(map(plain, missing))}.")
    folders = [*teachers, *(folder for folder in kept.values() if folder.is_dir())]
    names = [*teachers.values(), *(students[run] for run, folder in kept.items() if folder.is_dir())]
    if not folders:
        raise UserError("runs", "none of the chosen runs has kept a model", "choose runs that are done")
    return dict(zip(distinct(names), folders, strict=True))


@st.cache_data(max_entries=256, show_spinner=False)
def _predict(folder: str, when: float, sentence: str, pair: str | None, tokens: int) -> Any:
    from kdcore.probes.predict_text import predict_logits

    model, tokenizer = _model(folder, when)
    with _one_at_a_time:
        return predict_logits(model, tokenizer, sentence, pair, max_length=tokens)


@st.cache_resource(max_entries=4, show_spinner=False)
def _model(folder: str, when: float) -> Any:
    from kdcore.models.students import load_classifier
    from kdcore.models.tokenizers import load_tokenizer

    return load_classifier(Path(folder)), load_tokenizer(folder)
