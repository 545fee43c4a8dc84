"""One row under the microscope: every teacher's answer, its weight, the mixture and the student."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.figures import examples as figures
from kdcore.probes import ensemble
from kdcore.probes.ensemble import MIXTURE, STUDENT, Mixed
from kdcore.probes.examples import distinct, of_class, probabilities
from pages.parts.common import cards
from pages.parts.common.text import one_line, plain
from pages.parts.examples.predictions import DevRows, Predictions


def show(dev: DevRows, own: Predictions, mixed: Mixed, student: NDArray[np.floating], place: int, kind: str) -> None:
    """Its sentences, and every answer as a bar.

    Args:
        student: logits at the mixture's temperature. place: of the row in the split. kind: of the method's mixture;
            empty: it has no weights, so that this is a plain mean.
    """
    picture, text = st.columns([5, 4], gap="large")
    answers = {
        f"teacher {name}{f', {mixed.weights[name]:.0%}' if kind else ''}": logits[place]
        for name, logits in mixed.teachers.items()
    }
    answers |= {MIXTURE if kind else "plain mean": mixed.mixture[place], STUDENT: student[place]}
    with picture:
        _bars(dev, answers, float(own.gold[place]))
    with text:
        st.markdown(
            f"**Row {int(own.ids[place]) % IDS_PER_SPLIT}**, gold: **{plain(answer_text(dev, own.gold[place]))}**"
        )
        for sentence in dev.texts.iloc[place]:
            st.markdown(plain(sentence, 600))
        if not mixed.regression:
            st.markdown(_against(dev, mixed, place))
        _teachers(own, mixed, place, kind)


def _bars(dev: DevRows, answers: Mapping[str, NDArray[np.floating]], gold: float) -> None:
    """Each answer: name -> outputs."""
    dark = cards.dark()
    if not dev.task.labels:
        scores = pd.Series({"gold": gold} | {name: float(given[0]) for name, given in answers.items()})
        cards.figure(lambda: figures.scores(scores, dark), "ensemble_bars")
        return
    bars = [probabilities(logits) for logits in answers.values()]
    table = pd.DataFrame(bars, index=list(answers), columns=distinct(dev.task.labels))
    data = table.rename_axis("model").reset_index()
    cards.figure(lambda: figures.probabilities(table, dark), "ensemble_bars", data=data)


def _against(dev: DevRows, mixed: Mixed, place: int) -> str:
    """Which teachers give another label than the mixture."""
    label = plain(answer_text(dev, mixed.mixture[place]))
    against = ensemble.dissent(mixed).iloc[place]
    names = [
        f"**{plain(name)}** ({plain(answer_text(dev, mixed.teachers[name][place]))})" for name in against[against].index
    ]
    return f"Against the mixture's {label}: {', '.join(names)}." if names else f"All teachers say {label}."


def _teachers(own: Predictions, mixed: Mixed, place: int, kind: str) -> None:
    """One line a teacher: what it gives the gold label, what it weighs, and its part of the target."""
    table = pd.DataFrame({"teacher": [one_line(name, 40) for name in mixed.teachers]})
    if not mixed.regression:
        gold = own.gold[place : place + 1]
        table["p(gold)"] = [float(of_class(logits[place : place + 1], gold)[0]) for logits in mixed.teachers.values()]
    weight, share = ("chance", "expected share") if kind == "draw" else ("weight", "share of target")
    if kind:
        table[weight] = [100 * value for value in mixed.weights.values()]
        table[share] = 100 * ensemble.shares(mixed).iloc[place].to_numpy()
    elif mixed.regression:
        return
    percent = st.column_config.NumberColumn(format="%.1f%%")
    st.dataframe(
        table, hide_index=True, key="ensemble_teachers",
        column_config={weight: percent, share: percent, "p(gold)": st.column_config.NumberColumn(format="%.3f")},
        alt="The teachers on this row: probability of the gold label, weight, share of the target",
    )  # fmt: skip


def answer_text(dev: DevRows, value: np.generic | NDArray[np.generic]) -> str:
    """A gold label, or a model's outputs of one row, in words."""
    if not dev.task.labels:
        return f"{float(np.ravel(value)[0]):.2f}"
    return dev.task.labels[int(np.argmax(value)) if np.ndim(value) else int(value)]
