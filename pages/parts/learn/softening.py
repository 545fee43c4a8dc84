"""A slider over the temperature: the softened probabilities, and the soft term of the loss on one row."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import temperature
from kdcore.probes.temperature import Softened, soften
from pages.parts.common import cards
from pages.parts.common.keys import TEMPERATURE


def show(teacher: Any, student: Any, labels: tuple[str, ...], color: str) -> None:
    """Args: teacher, student: logits [classes]. color: the student's."""
    t = st.slider(
        "Temperature T", temperature.COLDEST, temperature.HOTTEST, 2.0, 0.5, key=TEMPERATURE, bind="query-params",
        help="1: the models' own probabilities; higher: flatter",
    )  # fmt: skip
    t = min(max(float(t or 1.0), temperature.COLDEST), temperature.HOTTEST)
    softened, unsoftened = soften(teacher, student, t), soften(teacher, student, 1.0)
    _metrics(softened, len(labels))
    dark = cards.dark()
    left, right = st.columns([3, 2], gap="medium")
    with left:
        table = pd.DataFrame({"class": labels, "teacher": softened.teacher, "student": softened.student})
        cards.figure(
            partial(temperature.bars, softened, unsoftened, labels, color, dark),
            "learn_bars",
            f"Probabilities at T = {t:g}; outlines: at T = 1. The order of the classes never changes.",
            data=table,
        )
    with right:
        cards.figure(
            partial(temperature.pull, teacher, student, t, color, dark),
            "learn_pull",
            "The soft term of this row over T. T² keeps the size of its gradient; for a large T the term is a squared "
            "error between centred logits (Hinton et al. 2015, section 2.1).",
        )


def _metrics(softened: Softened, classes: int) -> None:
    most = f"of at most {np.log(classes):.2f}"
    numbers = [
        ("Teacher's entropy", f"{softened.teacher_entropy:.3f}", most),
        ("Student's entropy", f"{softened.student_entropy:.3f}", most),
        ("KL(teacher ‖ student)", f"{softened.kl:.4g}", "at this T"),
        ("T² · KL", f"{softened.loss:.4g}", "the soft term"),
    ]
    with st.container(horizontal=True, key="learn_values"):
        for label, value, hint in numbers:
            st.metric(label, value, help=f"In nats, {hint}", border=True, width="stretch")
