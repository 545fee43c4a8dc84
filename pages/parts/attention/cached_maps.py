"""Attention maps of a run's models, computed once per sentence and kept for a while."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kdcore.errors import UserError
from kdcore.paths import run_dir
from kdcore.probes import saliency
from kdcore.probes.attention import AttentionMaps, Maps, attention_maps, head_divergences, layer_divergences
from kdcore.remote import fetching

MAX_TOKENS = 128
"""Of a sentence. Heads are compared over all of them; a window of them is drawn."""

_one_at_a_time = threading.Lock()
"""The maps are read through hooks in the model, and sessions share the models."""


@dataclass(frozen=True)
class Divergences:
    """Jensen-Shannon divergences, in nats. heads: [teacher layers, teacher heads, student layers, student heads].

    layers: of the maps' means over heads, [teacher layers, student layers].
    """

    heads: NDArray[np.float64]
    layers: NDArray[np.float64]


def stamp(run: str) -> float:
    """Changes when the run's student does."""
    folder = run_dir(run) / "student-best"
    if not folder.is_dir():
        if how := fetching(run):
            raise UserError("run", "its student is not on this computer", how)
        raise UserError(
            "run", "it did not keep a student", "choose a run that is done, or stopped with its student kept"
        )
    return folder.stat().st_mtime


@st.cache_data(max_entries=64, show_spinner=False)
def student_maps(run: str, when: float, sentence: str, pair: str | None) -> AttentionMaps:
    model, tokenizer = _student(run, when)
    with _one_at_a_time:
        return attention_maps(model, tokenizer, sentence, pair, max_length=MAX_TOKENS)


@st.cache_data(max_entries=64, show_spinner=False)
def teacher_maps(run: str, when: float, teacher: str, sentence: str, pair: str | None) -> AttentionMaps:
    model, tokenizer = _teachers(run, when)[teacher]
    with _one_at_a_time:
        return attention_maps(model, tokenizer, sentence, pair, max_length=MAX_TOKENS)


@st.cache_data(max_entries=256, show_spinner=False)
def answer(run: str, when: float, teacher: str, sentence: str, pair: str | None) -> NDArray[np.float32]:
    """The logits of the kept student, or of a teacher, for the sentence; [outputs]."""
    from kdcore.probes.predict_text import predict_logits

    model, tokenizer = _teachers(run, when)[teacher] if teacher else _student(run, when)
    with _one_at_a_time:
        return predict_logits(model, tokenizer, sentence, pair, max_length=MAX_TOKENS)


@st.cache_data(max_entries=64, show_spinner=False)
def attribution(
    run: str, when: float, teacher: str, sentence: str, pair: str | None, label: int | None, method: str
) -> saliency.Attribution:
    """What each word adds to the answer of the kept student or of a teacher. label: the class; None: its own answer."""
    model, tokenizer = _teachers(run, when)[teacher] if teacher else _student(run, when)
    with _one_at_a_time:
        return saliency.explain(model, tokenizer, sentence, pair, label=label, method=method, max_length=MAX_TOKENS)


@st.cache_data(max_entries=64, show_spinner=False)
def compared(teacher: Maps, student: Maps) -> Divergences:
    """Every head against every head, and every layer against every layer, over all tokens."""
    return Divergences(head_divergences(teacher, student), layer_divergences(teacher, student))


def teacher_names(run: str, when: float) -> list[str]:
    return list(_teachers(run, when))


@st.cache_resource(max_entries=3, show_spinner=False)
def _student(run: str, when: float) -> Any:
    from kdcore.engine import results

    return results.student(run_dir(run))


@st.cache_resource(max_entries=2, show_spinner=False)
def _teachers(run: str, when: float) -> Any:
    from kdcore.engine import results

    return results.teachers(run_dir(run))
