"""What the models say of the sentence whose attention is shown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kdcore.probes.examples import probabilities
from kdcore.store import RunRow
from pages.parts.attention import cached_maps
from pages.parts.common import cached, cards
from pages.parts.common.text import plain


def show(row: RunRow, logits: Mapping[str, NDArray[np.float32]]) -> None:
    """One line: each model with its class and how sure it is, or its value. logits: model -> [outputs]."""
    with cards.guarded("The models' answers cannot be shown"):
        labels = labels_of(row)
        st.markdown(" · ".join(f"{plain(name)}: {_answer_text(values, labels)}" for name, values in logits.items()))


def read(run: str, when: float, teacher: str | None, sentence: str, pair: str | None) -> dict[str, NDArray[np.float32]]:
    """The logits of the teacher, where there is one, and of the student; model -> [outputs]."""
    said = {f"Teacher {teacher}": cached_maps.answer(run, when, teacher, sentence, pair)} if teacher else {}
    return {**said, "Student": cached_maps.answer(run, when, "", sentence, pair)}


def labels_of(row: RunRow) -> tuple[str, ...]:
    """Names of the classes; empty where the task's rows are not here, or have none."""
    own = row.config.own.model_dump_json() if row.config.own else None
    try:
        return tuple(cached.rows(row.config.task, own).task.labels)
    except Exception:  # its rows are gone: the sentence's own card says so
        return ()


def _answer_text(logits: NDArray[np.float32], labels: tuple[str, ...]) -> str:
    if len(logits) == 1:
        return f"**{float(logits[0]):.2f}**"
    shares = probabilities(logits)
    best = int(np.argmax(shares))
    name = labels[best] if best < len(labels) else f"class {best}"
    return f"**{plain(name, 60)}** ({shares[best]:.1%})"
