"""Which teacher head each student head is nearest to, and how far the layers are from one another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.figures import layers
from kdcore.probes.attention import HeadMatch
from pages.parts.attention.panels import AttentionPair, Head, head_of
from pages.parts.common import cards
from pages.parts.common.keys import LAYER
from pages.parts.common.plot import Click


def show(divergences: NDArray[np.float64], matches: list[HeadMatch], pair: AttentionPair, head: Head) -> None:
    """Args: divergences: [teacher layers, student layers], in nats. head: the student's chosen one."""
    expander = st.expander("Nearest heads and layers", key="attention_nearest", on_change="rerun")
    if not expander.open:
        return
    with expander:
        left, right = st.columns(2)
        with left:
            _layers(divergences, pair)
        with right:
            _heads(matches, head)


def _layers(divergences: NDArray[np.float64], pair: AttentionPair) -> None:
    matched = {student: several for student, several in pair.layer_map.items() if student and 0 not in several}
    cards.figure(
        lambda: layers.matrix(divergences, "js", matched, cards.dark(), first=1),
        "attention_layers",
        "Layer against layer, on the mean of each layer's heads; 0: the same. "
        f"{'Outlined: the layers that the method matches. ' if matched else ''}Click a cell to open that layer.",
        data=pd.DataFrame(
            [(t + 1, s + 1, divergences[t, s]) for t, s in np.ndindex(*divergences.shape)],
            columns=["teacher layer", "student layer", "divergence"],
        ),
        follows=pair.teacher_name,
        on_click=_open_layer,
    )


def _heads(matches: list[HeadMatch], head: Head) -> None:
    table = pd.DataFrame(
        {
            "": ["◀" if head_of(match) == head else "" for match in matches],
            "student head": [f"{match.student_layer}.{match.student_head}" for match in matches],
            "teacher head": [f"{match.teacher_layer}.{match.teacher_head}" for match in matches],
            "divergence": [match.divergence for match in matches],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height=340,
        key="attention_matches",
        column_config={"": st.column_config.Column(width=30),
                       "divergence": st.column_config.NumberColumn(format="%.4f")},
        alt="For each student head the nearest teacher head and their divergence",
    )  # fmt: skip
    st.caption(
        "The nearest teacher head of each student head (layer.head, from 1), and their mean Jensen-Shannon "
        "divergence over all tokens in nats; ◀ marks the head above."
    )


def _open_layer(click: Click) -> None:
    if click.row is not None:
        st.session_state[LAYER] = click.row + 1
