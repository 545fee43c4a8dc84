"""What several teachers answer, row by row: who is against the mixture, and whether the mixture beats the best of them.

Teachers are given by name, with logits [rows, classes], or scores [rows, 1] for regression. `weights` are one a
teacher, none negative, of sum 1. The mixture is the weighted mean of the teachers' probabilities (of their scores).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from kdcore.probes.examples import disagreement, mean_answer, probabilities
from kdcore.probes.fidelity import pearson

Floats = NDArray[np.float64]
Answers = Mapping[str, ArrayLike]
STUDENT, MIXTURE = "student", "mixture"


@dataclass(frozen=True)
class Mixed:
    """The teachers' answers and their mixture at one temperature.

    teachers: name -> logits / T, [rows, outputs] (scores stay as they are). mixture: the logarithm of the mean
    probabilities [rows, classes], or the mean score [rows, 1]. weights: teacher -> weight.
    """

    teachers: Mapping[str, Floats]
    mixture: Floats
    weights: Mapping[str, float]

    @property
    def regression(self) -> bool:
        return bool(self.mixture.shape[-1] == 1)


def mix(answers: Answers, weights: Mapping[str, float], temperature: float = 1.0) -> Mixed:
    """Mixes the answers as a method's soft target does.

    Raises:
        ValueError: no teacher, a teacher without a weight, or T not above 0.
    """
    if not answers or set(answers) - set(weights) or not temperature > 0:
        raise ValueError(f"weights {sorted(weights)} for teachers {sorted(answers)} at T = {temperature}")
    given = {name: np.asarray(logits, np.float64) for name, logits in answers.items()}
    regression = next(iter(given.values())).shape[-1] == 1
    scaled = given if regression else {name: logits / temperature for name, logits in given.items()}
    shares = {name: float(weights[name]) for name in given}
    return Mixed(scaled, mean_answer(scaled.values(), list(shares.values())), shares)


def shares(mixed: Mixed) -> pd.DataFrame:
    """How much of the mixture each teacher makes: w_k p_k(c) / sum_j w_j p_j(c), c the label that the mixture gives.

    Returns:
        [rows, teachers], each row of sum 1; for regression the weights themselves.
    """
    names, weights = list(mixed.teachers), np.array(list(mixed.weights.values()))
    if mixed.regression:
        return pd.DataFrame(np.tile(weights, (len(mixed.mixture), 1)), columns=names)
    label = mixed.mixture.argmax(-1)[:, None]
    p = np.stack([np.take_along_axis(probabilities(logits), label, -1)[:, 0] for logits in mixed.teachers.values()], 1)
    parts = weights * p
    return pd.DataFrame(parts / parts.sum(1, keepdims=True), columns=names)


def dissent(mixed: Mixed) -> pd.DataFrame:
    """Whether each teacher's label is another than the mixture's: bool [rows, teachers]; never so in regression."""
    label = mixed.mixture.argmax(-1)
    return pd.DataFrame({name: logits.argmax(-1) != label for name, logits in mixed.teachers.items()})


def rows(mixed: Mixed) -> pd.DataFrame:
    """Each row: how many teachers give another label than the mixture, and how far the teachers are from one another.

    Returns:
        against: number of teachers; agree: whether all give one label; disagreement: `examples.disagreement`.
    """
    labels = np.stack([logits.argmax(-1) for logits in mixed.teachers.values()])
    return pd.DataFrame(
        {
            "against": dissent(mixed).to_numpy().sum(1),
            "agree": (labels == labels[0]).all(0),
            "disagreement": disagreement(mixed.teachers.values()),
        }
    )


def quality(gold: ArrayLike, answers: Answers) -> pd.DataFrame:
    """How good each model is on these rows, by its name.

    Args:
        gold: class numbers or scores [rows].

    Returns:
        Classification: accuracy (0..1) and nll, -ln p(gold), mean over rows. Regression: error, |score - gold|, mean
        over rows, and pearson.
    """
    return pd.DataFrame({name: _quality(np.asarray(gold), np.asarray(given)) for name, given in answers.items()}).T


def _quality(gold: NDArray[np.generic], given: NDArray[np.generic]) -> dict[str, float]:
    logits = np.asarray(given, np.float64)
    if logits.shape[-1] == 1:
        scores, truth = logits[:, 0], np.asarray(gold, np.float64)
        return {"error": float(np.abs(scores - truth).mean()), "pearson": pearson(truth, scores)}
    right = np.asarray(gold, np.int64)
    log_p = np.take_along_axis(log_softmax(logits, axis=-1), right[:, None], -1)[:, 0]
    return {"accuracy": float((logits.argmax(-1) == right).mean()), "nll": float(-log_p.mean())}


def best_teacher(table: pd.DataFrame, teachers: Mapping[str, object]) -> str:
    """Of `quality`, the teacher that is most often right, of equal ones the one of the smaller NLL; for scores, the
    one of the smallest error."""
    among = table.loc[list(teachers)]
    order = ["error"] if "error" in among else ["accuracy", "nll"]
    return str(among.sort_values(order, ascending=[name != "accuracy" for name in order], kind="stable").index[0])
