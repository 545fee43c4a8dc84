"""Whether a classifier's confidence can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax


@dataclass(frozen=True)
class Bin:
    """Rows whose confidence lies in (low, high]: how many, how sure on average, how often right. No rows: 0, 0."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """ece: expected calibration error, 0..1. brier: 0 (perfect) .. 2. nll: negative log-likelihood in nats, from 0.

    bins: the reliability diagram.
    """

    ece: float
    brier: float
    nll: float
    bins: tuple[Bin, ...]

    def data(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"ece": self.ece, "brier": self.brier, "nll": self.nll, "bins": [vars(bin) for bin in self.bins]}


def measure(logits: ArrayLike, labels: ArrayLike, bins: int = 15) -> Calibration:
    """Calibration of a classifier's softmax.

    ece: sum over `bins` equal-width bins of confidence of (rows in bin / rows) x |accuracy - confidence|
    (Guo et al. 2017, arXiv 1706.04599, equation 3). brier: squared distance between the probabilities and the one-hot
    label, summed over classes, mean over rows (Brier 1950). nll: -log of the label's probability, mean over rows.

    Args:
        logits: [rows, classes]. labels: int [rows].

    Raises:
        ValueError: no rows, lengths that differ, fewer than 2 classes, or a label outside the classes.
    """
    values, gold = np.asarray(logits, np.float64), np.asarray(labels)
    if values.ndim != 2 or values.shape[1] < 2 or gold.shape != values.shape[:1] or not len(gold):
        raise ValueError(f"logits {values.shape} and labels {gold.shape}: need [rows, classes >= 2] and [rows]")
    if gold.min() < 0 or gold.max() >= values.shape[1]:
        raise ValueError(f"labels run from {gold.min()} to {gold.max()}, classes from 0 to {values.shape[1] - 1}")
    probabilities = softmax(values, axis=-1)
    confidence = probabilities.max(-1)
    right = probabilities.argmax(-1) == gold
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found = tuple(_bin(edges, index, place == index, confidence, right) for index in range(bins))
    ece = sum(bin.rows * abs(bin.accuracy - bin.confidence) for bin in found) / len(gold)
    one_hot = np.eye(values.shape[1])[gold]
    brier = ((probabilities - one_hot) ** 2).sum(-1).mean()
    nll = -log_softmax(values, axis=-1)[np.arange(len(gold)), gold].mean()
    return Calibration(float(ece), float(brier), max(float(nll), 0.0), found)


def confidence(logits: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """`ece`, `brier` and `nll` of classes; nothing of scores.

    Args:
        logits: [rows, outputs]. labels: [rows].
    """
    if np.shape(logits)[1] < 2:
        return {}
    found = measure(logits, labels)
    return {"ece": found.ece, "brier": found.brier, "nll": found.nll}


def _bin(edges: np.ndarray, index: int, inside: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> Bin:
    rows = int(inside.sum())
    sure = float(confidence[inside].mean()) if rows else 0.0
    correct = float(right[inside].mean()) if rows else 0.0
    return Bin(float(edges[index]), float(edges[index + 1]), rows, sure, correct)
