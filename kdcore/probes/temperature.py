"""What a temperature does to the answers of teacher and student on one row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from kdcore.probes.fidelity import divergence

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Softened:
    """Both distributions at one temperature.

    teacher, student: probabilities [classes]. Entropies and `kl` = KL(teacher || student) in nats.
    """

    temperature: float
    teacher: Floats
    student: Floats
    teacher_entropy: float
    student_entropy: float
    kl: float

    @property
    def loss(self) -> float:
        """T^2 KL: the soft term of this row (Hinton et al. 2015, section 2). T^2 undoes the 1 / T^2 of its gradient."""
        return self.temperature**2 * self.kl


def soften(teacher_logits: ArrayLike, student_logits: ArrayLike, temperature: float) -> Softened:
    """Softmax of both at T.

    Args:
        teacher_logits, student_logits: [classes], at least two.

    Raises:
        ValueError: the two differ in length, have fewer than two finite numbers, or T is not above 0.
    """
    teacher, student = np.asarray(teacher_logits, np.float64), np.asarray(student_logits, np.float64)
    if teacher.shape != student.shape or teacher.ndim != 1 or len(teacher) < 2:
        raise ValueError(f"teacher gave {teacher.shape}, student {student.shape}; need the same two or more classes")
    if not (np.isfinite(teacher).all() and np.isfinite(student).all()):
        raise ValueError("logits must be finite numbers")
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    p, q = np.exp(log_p), np.exp(log_q)
    kl = float(divergence(teacher / temperature, student / temperature))
    return Softened(temperature, p, q, -float(p @ log_p), -float(q @ log_q), kl)


def entropies(logits: ArrayLike) -> Floats:
    """Entropy of softmax(logits) per row, nats, [rows]. Args: logits: [rows, classes]."""
    log_p = log_softmax(np.asarray(logits, np.float64), axis=-1)
    result: Floats = -(np.exp(log_p) * log_p).sum(-1)
    return result


def limit(teacher_logits: ArrayLike, student_logits: ArrayLike) -> float:
    """What T^2 KL tends to for a large T: half the variance, over the classes, of the difference of the logits.

    This is Hinton et al. 2015, section 2.1: soft targets become a squared error of centred logits.
    """
    difference = np.asarray(teacher_logits, np.float64) - np.asarray(student_logits, np.float64)
    return float(difference.var() / 2)
