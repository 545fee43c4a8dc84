"""Which words decide: the sentence shaded by what each word adds to the teacher's and to the student's answer."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from kdcore.figures import saliency as figures
from kdcore.probes.saliency import GRADIENT, INTEGRATED, LEAST_WORDS, METHODS, STEPS, Attribution, agreement, by_words
from kdcore.store import RunRow
from pages.parts.attention import answers, cached_maps
from pages.parts.common import cards
from pages.parts.common.keys import ATTRIBUTION, EXPLAINED
from pages.parts.common.teacher_picker import teacher_here
from pages.parts.common.text import plain

OWN = "as answered"
HOW = (
    "Each value is on the word embeddings, in float32 and eval mode, and explains the score of a regression or the "
    "logit of one class minus the mean of all logits. "
    "*Gradient x input*: the embedding times the gradient (Shrikumar et al. 2016, arXiv 1605.01713). "
    f"*Integrated gradients* ({STEPS} points; Sundararajan et al. 2017, arXiv 1703.01365): the gradient's mean on the "
    "way from a sentence whose words have the embedding 0, so that the values sum to the difference of the two scores. "
    "Special tokens are left as they are and get no value. An attribution says what the model's score reacts to, "
    "not whether that is a good reason."
)


def show(row: RunRow, sentence: str, second: str | None) -> None:
    """Draws both models' words on one scale. The student is alone where there is no teacher."""
    when = cached_maps.stamp(row.id)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = teacher_here(row, cached_maps.teacher_names(row.id, when))
        said = answers.read(row.id, when, name, sentence, second)
        method = _method()
        label = _label(row, len(said["Student"]))
    answers.show(row, said)
    with st.spinner("The models weigh the words"):
        first = cached_maps.attribution(row.id, when, name or "", sentence, second, label, method)
        student = cached_maps.attribution(row.id, when, "", sentence, second, first.label, method) if name else first
    by_model = {"Teacher": first, "Student": student} if name else {"Student": student}
    if first.tokens != student.tokens:
        words = by_words(first, student)
        if words is None:
            st.info("Teacher and student split the sentence into different tokens, so they cannot be compared.")
            by_model = {"Student": student}
        else:
            first, student = words
            by_model = {"Teacher": first, "Student": student}
            st.caption("Teacher and student split the sentence into different tokens: a word has the sum of its own.")
    if not student.tokens:
        cards.empty("**No words to weigh.** Type a sentence with a word in it.")
        return
    if len(by_model) == 2:
        st.markdown(_agreement(first, student))
    _draw(row, by_model, student, method)


def _method() -> str:
    choice = st.selectbox(
        "Attribution",
        METHODS,
        key=ATTRIBUTION,
        bind="query-params",
        width=220,
        help=f"{GRADIENT}: one pass back. {INTEGRATED}: {STEPS} of them; its values sum to the answer",
    )
    return choice if choice in METHODS else GRADIENT


def _label(row: RunRow, outputs: int) -> int | None:
    """The class that is explained; None: the one that the teacher, or a student without one, answers."""
    if outputs == 1:
        return None
    names = [_class_name(row, number) for number in range(outputs)]
    options = (OWN, *names)
    if st.session_state.get(EXPLAINED) not in (None, *options):
        st.session_state[EXPLAINED] = OWN  # of another task
    choice = st.selectbox(
        "For the class",
        options,
        key=EXPLAINED,
        bind="query-params",
        width=220,
        help="As answered: the teacher's class, for both models",
    )
    return names.index(choice) if choice in names else None


def _class_name(row: RunRow, label: int) -> str:
    labels = answers.labels_of(row)
    return labels[label] if label < len(labels) else f"class {label}"


def _agreement(teacher: Attribution, student: Attribution) -> str:
    count = len(student.tokens)
    if count < LEAST_WORDS:
        return f"{count} tokens are too few to say how alike teacher and student weigh them."
    found = agreement(teacher.values, student.values)
    return (
        f"Over these {count} tokens, teacher and student agree with a rank correlation of **{found.spearman:.2f}** "
        f"and a cosine of **{found.cosine:.2f}** (1: the same words decide; 0: no relation)."
    )


def _draw(row: RunRow, by_model: dict[str, Attribution], student: Attribution, method: str) -> None:
    values = {name: each.values for name, each in by_model.items()}
    target = "the score" if student.label is None else _class_name(row, student.label)
    cards.figure(
        partial(
            figures.word_map, student.tokens, values, "What each word adds",
            top=figures.shared_top(*values.values()), dark=cards.dark(),
        ),
        "attention_words",
        f"Brown speaks for {plain(target, 60)}, blue against it; one scale for both models.",
        data=pd.DataFrame({"token": student.tokens, **{name.lower(): row for name, row in values.items()}}),
        how=HOW,
        about={"method": method, "class": target},
    )  # fmt: skip
