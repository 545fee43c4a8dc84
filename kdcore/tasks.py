"""The task table: columns, kind, labels, metrics and which splits are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kdcore.errors import UserError

Kind = Literal["classification", "regression"]

NO_CLASS = -1
"""The label of a row that has no class; a missing score is NaN."""


@dataclass(frozen=True)
class Task:
    """One task.

    columns: the one or two text columns. labels: names in the order of their ids; empty for regression.
    metrics: names of `evaluate_scores`; the first is the main one, by which students are chosen.
    splits: the dev splits that are reported.
    """

    key: str
    title: str
    suite: Literal["pocket", "glue", "own"]
    columns: tuple[str, ...]
    kind: Kind
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    splits: tuple[str, ...] = ("validation",)
    train_rows: int = 0
    about: str = ""

    @property
    def main_metric(self) -> str:
        return self.metrics[0]

    @property
    def outputs(self) -> int:
        """Width of the classifier: one per label, or 1 for a score."""
        return len(self.labels) if self.kind == "classification" else 1

    @property
    def synthetic(self) -> bool:
        return self.suite == "pocket"


METRICS: dict[str, str] = {
    "accuracy": "Accuracy (%)",
    "f1": "F1 (%)",
    "matthews": "Matthews correlation (×100)",
    "pearson": "Pearson correlation (×100)",
    "spearman": "Spearman correlation (×100)",
}
"""Metric -> axis title. Stored as fractions, shown times 100 as GLUE does."""


def _glue(
    key: str,
    title: str,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    rows: int,
    about: str,
) -> Task:
    kind: Kind = "classification" if labels else "regression"
    splits = ("validation_matched", "validation_mismatched") if key == "mnli" else ("validation",)
    return Task(key, title, "glue", columns, kind, labels, metrics, splits, rows, about)


def _pocket(key: str, title: str, like: Task, about: str) -> Task:
    return Task(key, title, "pocket", like.columns, like.kind, like.labels, like.metrics, ("validation",), 4000, about)


_PAIR = ("sentence1", "sentence2")

GLUE: dict[str, Task] = {
    task.key: task
    for task in (
        _glue("cola", "CoLA", ("sentence",), ("unacceptable", "acceptable"), ("matthews", "accuracy"), 8551,
              "Is the sentence grammatical?"),
        _glue("sst2", "SST-2", ("sentence",), ("negative", "positive"), ("accuracy",), 67349,
              "Is the review positive?"),
        _glue("mrpc", "MRPC", _PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1"), 3668,
              "Do the two sentences say the same?"),
        _glue("stsb", "STS-B", _PAIR, (), ("pearson", "spearman"), 5749,
              "How alike are the two sentences, from 0 to 5?"),
        _glue("qqp", "QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1"), 363846,
              "Do the two questions ask the same?"),
        _glue("mnli", "MNLI", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), ("accuracy",),
              392702, "Does the premise entail or contradict the hypothesis?"),
        _glue("qnli", "QNLI", ("question", "sentence"), ("entailment", "not_entailment"), ("accuracy",), 104743,
              "Does the sentence answer the question?"),
        _glue("rte", "RTE", _PAIR, ("entailment", "not_entailment"), ("accuracy",), 2490,
              "Does the first sentence entail the second?"),
        _glue("wnli", "WNLI", _PAIR, ("not_entailment", "entailment"), ("accuracy",), 635,
              "Does the sentence with the pronoun resolved follow?"),
    )
}  # fmt: skip

POCKET: dict[str, Task] = {
    task.key: task
    for task in (
        _pocket("pocket-sentiment", "Pocket sentiment", GLUE["sst2"], "Opinion with negation and contrast."),
        _pocket("pocket-acceptability", "Pocket acceptability", GLUE["cola"], "Agreement over attractors."),
        _pocket("pocket-paraphrase", "Pocket paraphrase", GLUE["mrpc"], "Who did what to whom, with roles swapped."),
        _pocket("pocket-entailment", "Pocket entailment", GLUE["rte"], "Quantifiers and hypernyms."),
        _pocket("pocket-similarity", "Pocket similarity", GLUE["stsb"], "Graded overlap of two scenes."),
        _pocket(
            "pocket-inference", "Pocket inference", GLUE["mnli"], "Less, more, or other than was said: three ways."
        ),
    )
}

TASKS: dict[str, Task] = {**POCKET, **GLUE}


def find_task(key: str) -> Task:
    """The task of this key.

    Raises:
        UserError: no such task; the message lists the keys.
    """
    try:
        return TASKS[key]
    except KeyError:
        raise UserError("task", f"no task {key[:60]!r}", f"choose one of {', '.join(TASKS)} or 'own'") from None
