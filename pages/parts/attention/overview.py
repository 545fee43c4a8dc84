"""One number for each head of both models: how widely it looks, or how far it is from the other model's nearest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kdcore.figures import attention, attention_heads
from kdcore.probes.attention import Maps, head_entropies
from pages.parts.attention.panels import AttentionPair, Head, open_head, open_teacher_head
from pages.parts.common import cards
from pages.parts.common.keys import HEAD_NUMBER
from pages.parts.common.plot import Click

DISTANCE, ENTROPY = "distance", "entropy"
WORDS = {
    DISTANCE: "Jensen-Shannon divergence to the other model's nearest head, in nats; bright: near",
    ENTROPY: "Entropy of a head's rows, in nats; 0: each token looks at one other",
}


def both(pair: AttentionPair, divergences: NDArray[np.float64], head: Head, teacher_head: Head) -> None:
    """Args: divergences: [teacher layers, teacher heads, student layers, student heads]."""
    assert pair.teacher is not None
    pictures = st.columns(2)
    left, right = st.columns([1, 3], vertical_alignment="center")
    number = left.segmented_control(
        "Number of each head",
        (DISTANCE, ENTROPY),
        default=DISTANCE,
        required=True,
        key=HEAD_NUMBER,
        bind="query-params",
        label_visibility="collapsed",
    )
    right.caption(f"{WORDS[number]}. Click a head to see it below.")
    if number == DISTANCE:
        values = divergences.min((2, 3)), divergences.min((0, 1))
    else:
        values = head_entropies(pair.teacher.maps), head_entropies(pair.student.maps)
    top = attention.shared_top(*values)
    sides = (
        (f"Teacher {pair.teacher_name}", values[0], "t", teacher_head, open_teacher_head),
        ("Student", values[1], "s", head, open_head),
    )
    for column, side in zip(pictures, sides, strict=True):
        with column:
            _numbers(*side, top, number)


def alone(student: Maps, head: Head) -> None:
    values = head_entropies(student)
    _numbers("Student", values, "s", head, open_head, attention.shared_top(values), ENTROPY)
    st.caption(f"{WORDS[ENTROPY]}. Click a head to see it below.")


def _numbers(
    title: str,
    values: NDArray[np.float64],
    key: str,
    head: Head,
    choose: Callable[[Head], None],
    top: float,
    number: str,
) -> None:
    cards.figure(
        lambda: attention_heads.overview(
            values, title, number, top=top, low_is_near=number == DISTANCE, marked=head, dark=cards.dark()
        ),
        f"attention_heads_{key}",
        on_click=partial(_open, choose),
    )


def _open(choose: Callable[[Head], None], click: Click) -> None:
    if click.row is not None and click.column is not None:
        choose((click.row + 1, click.column + 1))
