"""Attention maps of a run's models, computed once a sentence and kept for a while."""

from __future__ import annotations

import threading
from typing import Any

import streamlit as st

from kdcore.errors import UserError
from kdcore.paths import run_dir
from kdcore.probes.attention import AttentionMaps, attention_maps

LONGEST = 64
"""Tokens shown of a sentence: more could not be read on a screen."""

_one_at_a_time = threading.Lock()
"""The maps are read off through hooks in the model, and sessions share the models."""


def stamp(run: str) -> float:
    """Changes when the run's student does."""
    folder = run_dir(run) / "student-best"
    if not folder.is_dir():
        raise UserError("run", "it has kept no student", "choose a run that is done, or stopped with its student kept")
    return folder.stat().st_mtime


@st.cache_data(max_entries=64, show_spinner=False)
def student_maps(run: str, when: float, sentence: str, pair: str | None) -> AttentionMaps:
    model, tokenizer = _student(run, when)
    with _one_at_a_time:
        return attention_maps(model, tokenizer, sentence, pair, max_length=LONGEST)


@st.cache_data(max_entries=64, show_spinner=False)
def teacher_maps(run: str, when: float, teacher: str, sentence: str, pair: str | None) -> AttentionMaps:
    model, tokenizer = _teachers(run, when)[teacher]
    with _one_at_a_time:
        return attention_maps(model, tokenizer, sentence, pair, max_length=LONGEST)


def teacher_names(run: str, when: float) -> list[str]:
    return list(_teachers(run, when))


@st.cache_data(max_entries=16, show_spinner=False)
def samples(task: str, count: int = 3) -> list[tuple[str, str | None]]:
    """Short sentences (or pairs) of a task's dev split, to start from."""
    from kdcore.data import load

    data = load(task)
    split = data.splits[data.task.splits[0]]
    rows = sorted(range(min(len(split), 200)), key=lambda row: -len(split.texts[0][row]))[5 : 5 + count]
    second = split.texts[1] if len(split.texts) > 1 else None
    return [(split.texts[0][row], second[row] if second else None) for row in rows]


@st.cache_resource(max_entries=3, show_spinner=False)
def _student(run: str, when: float) -> Any:
    from kdcore.engine import results

    return results.student(run_dir(run))


@st.cache_resource(max_entries=2, show_spinner=False)
def _teachers(run: str, when: float) -> Any:
    from kdcore.engine import results

    return results.teachers(run_dir(run))
