"""What the page is asked: of which task, under which damage, by which quality. The address holds it."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from kdcore.analysis.beyond import QUALITIES, TRAINING
from kdcore.analysis.comparison import Comparison
from kdcore.probes.robustness import EMBEDDINGS, KINDS
from kdcore.tasks import TASKS
from pages.parts.common.text import metric_title, task_title

DAMAGES = {
    "label_noise": "Wrong labels",
    "imbalance": "Rare class",
    "label_fraction": "Few labels",
    **{kind: kind.capitalize() for kind in (*KINDS, EMBEDDINGS)},
}
"""Damage -> its name."""
AXES = {
    "label_noise": "Share of training labels that are wrong (%)",
    "imbalance": "Rows of the rarest class, of the most frequent one's (%)",
    "label_fraction": "Training rows that keep their label (%)",
    EMBEDDINGS: "Step against the model (% of the embeddings' RMS)",
}
NAMES = {"score": "Score", "ece": "ECE", "brier": "Brier", "nll": "NLL"}


@dataclass(frozen=True)
class Question:
    """damage: a key of `DAMAGES`. quality: of `QUALITIES`. metric: of the score.

    clean_teacher: whether the teachers that are trained here learned from clean rows.
    """

    damage: str
    quality: str
    metric: str
    clean_teacher: bool = False

    @property
    def of_training(self) -> bool:
        return self.damage in TRAINING

    @property
    def scale(self) -> float:
        """By which the quality is shown: scores and ECE as percent."""
        return 100.0 if self.quality in ("score", "ece") else 1.0

    @property
    def x_title(self) -> str:
        return AXES.get(self.damage, "Share of the words of a dev row (%)")

    @property
    def y_title(self) -> str:
        titles = {"score": metric_title(self.metric), "ece": "ECE (%)", "brier": "Brier score", "nll": "NLL (nats)"}
        return f"{titles[self.quality]}, dev split"


def task(by_task: list[Comparison]) -> Comparison:
    """The comparison of one task."""
    tasks = {comparison.task: comparison for comparison in by_task}
    if len(tasks) == 1:
        return by_task[0]
    picked = st.selectbox("Task", list(tasks), key="btask", bind="query-params", format_func=task_title)
    return tasks.get(picked, by_task[0])


def ask(comparison: Comparison) -> Question:
    """The controls, in one line."""
    classes = TASKS[comparison.task].kind == "classification" if comparison.task in TASKS else True
    damages = [key for key in DAMAGES if classes or key != "imbalance"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        damage = st.selectbox(
            "Damage", damages, key="damage", bind="query-params", format_func=lambda key: DAMAGES.get(key, key),
            help="The first three are of the training data and need runs of their own, the next of dev sentences, the "
            "last of their embeddings",
        )  # fmt: skip
        quality = "score"
        if classes:
            quality = st.segmented_control(
                "Quality", list(QUALITIES), key="quality", bind="query-params", default="score", required=True,
                format_func=lambda key: NAMES.get(key, key),
                help="Of ECE, Brier and NLL less is better",
            )  # fmt: skip
        damage = damage if damage in damages else "label_noise"
        clean = False
        if damage in TRAINING:
            clean = st.toggle(
                "Teachers of clean rows", key="bclean", bind="query-params",
                help="Off: teachers that are trained here learned from the same damaged rows",
            )  # fmt: skip
    return Question(damage, quality if quality in QUALITIES else "score", comparison.metric, clean)
