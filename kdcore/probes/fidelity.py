"""How closely a student follows its teacher, whatever the gold labels say."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from kdcore.probes.examples import disagreement

Floats = NDArray[np.float64]


def compare(teacher_logits: ArrayLike, student_logits: ArrayLike, regression: bool) -> dict[str, float]:
    """Teacher against student on the same rows.

    Args:
        teacher_logits, student_logits: [rows, classes], or [rows] or [rows, 1] for regression.

    Returns:
        classification: `agreement` (share of rows with the same label, 0..1) and `kl` (KL(teacher || student) in nats,
        mean over rows); regression: `pearson` (0 where one side is constant) and `mse` (squared units of the score).

    Raises:
        ValueError: the two differ in shape, or there are no rows.
    """
    teacher, student = np.asarray(teacher_logits, np.float64), np.asarray(student_logits, np.float64)
    if regression:
        teacher, student = teacher.reshape(-1), student.reshape(-1)
    if teacher.shape != student.shape or not teacher.size:
        raise ValueError(f"teacher gave {teacher.shape}, student {student.shape}; need the same rows, at least one")
    if regression:
        return {"pearson": pearson(teacher, student), "mse": float(np.mean((teacher - student) ** 2))}
    same = teacher.argmax(-1) == student.argmax(-1)
    return {"agreement": float(same.mean()), "kl": float(divergence(teacher, student).mean())}


def probability_loyalty(teacher_logits: ArrayLike, student_logits: ArrayLike) -> float:
    """Mean over rows of 1 - sqrt(JSD), the Jensen-Shannon divergence in bits: 1 the same answers, 0 opposite ones.

    That it is the measure of Xu et al. 2021, who named it, is unverified. Label loyalty is `agreement` of `compare`.

    Args:
        teacher_logits, student_logits: [rows, classes >= 2].
    """
    bits = disagreement([teacher_logits, student_logits]) / np.log(2)
    return float(np.mean(1 - np.sqrt(np.clip(bits, 0.0, 1.0))))


def pearson(first: Floats, second: Floats) -> float:
    """Pearson's correlation; 0 where one side does not vary."""
    a, b = first - first.mean(), second - second.mean()
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    tiny = np.finfo(np.float64).eps * len(first) * max(1.0, float(np.abs(first).max() * np.abs(second).max()))
    return float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > tiny else 0.0


def divergence(teacher: Floats, student: Floats) -> Floats:
    """KL(softmax(teacher) || softmax(student)) per row, [rows]; a rounding error below 0 is 0."""
    log_p, log_q = log_softmax(teacher, axis=-1), log_softmax(student, axis=-1)
    result: Floats = np.maximum((np.exp(log_p) * (log_p - log_q)).sum(-1), 0.0)
    return result
