"""Logits that a person types."""

from __future__ import annotations

import re

import streamlit as st

from kdcore.errors import UserError
from kdcore.figures import palette
from pages.parts.common import cards
from pages.parts.learn import softening

MOST_CLASSES = 12
TEACHER_DEFAULT, STUDENT_DEFAULT = "4.0, 1.5, -1.0", "2.0, 0.5, 0.2"
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?")


def show() -> None:
    left, right = st.columns(2)
    hint = "Numbers, separated by commas; one per class"
    first = left.text_input("Teacher's logits", TEACHER_DEFAULT, key="learn_t_logits", max_chars=200, help=hint)
    second = right.text_input("Student's logits", STUDENT_DEFAULT, key="learn_s_logits", max_chars=200, help=hint)
    try:
        teacher, student = read(first, "teacher"), read(second, "student")
        if len(teacher) != len(student):
            raise UserError("logits", f"{len(teacher)} numbers against {len(student)}", "give both the same classes")
    except UserError as error:
        cards.problem(error, "These are not logits")
        return
    labels = tuple(f"class {number}" for number in range(1, len(teacher) + 1))
    softening.show(teacher, student, labels, palette.FAMILIES["soft_targets"][cards.dark()])


def read(text: str, whose: str) -> list[float]:
    """Typed logits.

    Raises:
        UserError: not 2 to 12 numbers, or numbers beyond ±100.
    """
    parts = [part for part in re.split(r"[,;\s]+", text.strip()) if part]
    wrong = next((part for part in parts if not _NUMBER.fullmatch(part) or abs(float(part)) > 100), None)
    if wrong is not None:
        raise UserError(whose, f"{wrong[:20]!r} is not a number from -100 to 100", "write numbers such as 2.5, 0, -1")
    if not 2 <= len(parts) <= MOST_CLASSES:
        raise UserError(whose, f"{len(parts)} numbers", f"give 2 to {MOST_CLASSES}, separated by commas")
    return [float(part) for part in parts]
