"""Losses on logits and scores. All reduce to the mean over rows, in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hard_labels(logits: Tensor, labels: Tensor, regression: bool) -> Tensor:
    """Cross-entropy with the gold labels (nats), or the squared error to the gold score.

    Args:
        logits: [batch, classes], or [batch, 1] for regression.
        labels: int64 [batch], or float [batch] for regression.
    """
    if regression:
        return F.mse_loss(logits.float().squeeze(-1), labels.float())
    return F.cross_entropy(logits.float(), labels)


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over rows (Hinton et al. 2015, section 2).

    Args:
        student, teacher: logits [batch, classes]. temperature: T > 0.
    """
    log_p = F.log_softmax(teacher.float() / temperature, dim=-1)
    log_q = F.log_softmax(student.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def teacher_signal(student: Tensor, teacher: Tensor, temperature: float, regression: bool) -> Tensor:
    """`soft_targets`, or, for a task with scores, the squared error to the teacher's score (no softmax there)."""
    if regression:
        return F.mse_loss(student.float(), teacher.float())
    return soft_targets(student, teacher, temperature)


def soft_cross_entropy(student: Tensor, teacher_probabilities: Tensor, temperature: float) -> Tensor:
    """-sum_c p_c log softmax(student / T)_c, mean over rows; p: [batch, classes], rows sum to 1."""
    log_q = F.log_softmax(student.float() / temperature, dim=-1)
    return -(teacher_probabilities.float() * log_q).sum(-1).mean()


def entropy(probabilities: Tensor) -> Tensor:
    """-sum_c p_c log p_c per row, [batch]; 0 log 0 = 0."""
    return -torch.xlogy(probabilities, probabilities).sum(-1)
