"""GLUE's scores, by a metric of ours that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdcore import paths
from kdcore.tasks import METRICS, Kind, Task

if TYPE_CHECKING:
    import evaluate

Scorer = Callable[[NDArray[Any], NDArray[Any], int], float]

_ONE_AT_A_TIME = Lock()
"""A metric object collects rows between calls, and pages and workers are threads."""


def scores(task: Task, predictions: NDArray[np.floating], labels: NDArray[Any]) -> dict[str, float]:
    """The task's metrics on these rows, as fractions: accuracy and F1 in 0..1, correlations in -1..1.

    Args:
        predictions: logits [rows, outputs]; the class is the largest, the score of a regression the only column.
        labels: [rows], class numbers or scores.

    Degenerate cases give 0.0 where the metric has no value: a correlation with something constant (one class
    predicted, equal scores, a single row), F1 without any positive.

    Raises:
        ValueError: shapes do not fit, no rows, or predictions that are not finite.
    """
    outputs = np.asarray(predictions)
    truth = np.asarray(labels)
    if outputs.ndim != 2 or outputs.shape != (len(truth), task.outputs):
        raise ValueError(f"predictions are {outputs.shape}, expected {(len(truth), task.outputs)}")
    if not len(truth):
        raise ValueError("no rows to score")
    if not np.isfinite(outputs).all():
        raise ValueError("predictions hold values that are not finite")
    predicted = outputs[:, 0] if task.kind == "regression" else outputs.argmax(axis=1)
    with _ONE_AT_A_TIME:
        return dict(_metric(task.kind, task.metrics, task.outputs).compute(predictions=predicted, references=truth))


def blind_guess(task: Task, training_labels: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """The task's metrics on these rows of saying the same to all: the most frequent training label, or one score.

    Args:
        training_labels, labels: [rows], class numbers or scores; `labels` are those that are scored.
    """
    outputs = np.zeros((len(labels), task.outputs))
    if task.kind == "classification":
        outputs[:, np.bincount(np.asarray(training_labels, dtype=np.int64)).argmax()] = 1.0
    return scores(task, outputs, labels)


def is_blind_guess(metric: str, score: float, guess: float, rows: int) -> bool:
    """Whether a score is no better than a blind guess by more than chance gives in 1 of 40 cases.

    By two standard errors of the guess over so many rows: that of a share, or 1 / sqrt(rows) for a correlation.

    >>> is_blind_guess("accuracy", 0.54, 0.5, 500), is_blind_guess("accuracy", 0.55, 0.5, 500)
    (True, False)
    """
    correlation = metric in ("matthews", "pearson", "spearman")
    error = (1.0 if correlation else (guess * (1 - guess)) ** 0.5) / max(rows, 1) ** 0.5
    return bool(score <= guess + 2 * error)


def _accuracy(predicted: NDArray[Any], truth: NDArray[Any], classes: int) -> float:
    return float((predicted == truth).mean())


def _f1(predicted: NDArray[Any], truth: NDArray[Any], classes: int) -> float:
    """Of the class 1 where there are two, as GLUE does; the mean over classes where there are more.

    The mean is over the classes that have rows, whatever is predicted: a class without rows has no F1, and naming it
    once would otherwise pull the mean to the F1 of 0 that it then gets.
    """
    from sklearn.metrics import f1_score

    if classes == 2:
        return float(f1_score(truth, predicted, labels=[0, 1], zero_division=0))
    return float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


def _matthews(predicted: NDArray[Any], truth: NDArray[Any], classes: int) -> float:
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(predicted, truth) else float(matthews_corrcoef(truth, predicted))


def _pearson(predicted: NDArray[Any], truth: NDArray[Any], classes: int) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _constant(predicted, truth) else float(pearsonr(predicted, truth).statistic)


def _spearman(predicted: NDArray[Any], truth: NDArray[Any], classes: int) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _constant(predicted, truth) else float(spearmanr(predicted, truth).statistic)


def _constant(*values: NDArray[Any]) -> bool:
    return any(np.ptp(each) == 0 for each in values)


SCORERS: dict[str, Scorer] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
assert set(SCORERS) == set(METRICS)


@cache
def _metric(kind: Kind, names: tuple[str, ...], classes: int) -> evaluate.Metric:
    """One metric object for each list of names. Importing `evaluate` takes seconds, so it happens on first use."""
    import datasets
    import evaluate

    class GlueScores(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> evaluate.MetricInfo:
            value = datasets.Value("float64" if kind == "regression" else "int64")
            return evaluate.MetricInfo(
                description="The scores that GLUE reports.",
                citation="",
                inputs_description="predictions and references: class numbers or scores, one a row",
                features=datasets.Features({"predictions": value, "references": value}),
            )

        def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
            predicted, truth = np.asarray(predictions), np.asarray(references)
            return {name: SCORERS[name](predicted, truth, classes) for name in names}

    return GlueScores(keep_in_memory=True, cache_dir=str(paths.cache_subdir("metrics")), seed=0)
