"""Losses on logits and scores, in float32. All reduce to the mean over rows, but those with `rows` in their name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.precision import full
from kdcore.tasks import NO_CLASS as NO_CLASS


def has_label(labels: Tensor) -> Tensor:
    """Which rows have a label: bool, the shape of `labels`."""
    return ~labels.isnan() if labels.is_floating_point() else labels != NO_CLASS


def hard_labels(logits: Tensor, labels: Tensor, regression: bool) -> Tensor:
    """Cross-entropy with the gold labels (nats), or the squared error to the gold score, mean over rows.

    A row without a label adds 0 to the mean and nothing to the gradient, so that a labelled row weighs the same
    whatever its batch holds, and a batch in parts has the gradient of the whole.

    Args:
        logits: [batch, classes], or [batch, 1] for regression.
        labels: int64 [batch], or float [batch] for regression; -1 or NaN where a row has none.
    """
    logits = full(logits)
    if regression:
        scores = logits.squeeze(-1)
        gold = labels.to(logits.dtype)
        return F.mse_loss(scores, torch.where(gold.isnan(), scores.detach(), gold))
    there = has_label(labels)
    # a batch without any label would be 0 / 0: there some class stands in, with the factor 0
    known = torch.where(there.any(), labels, torch.zeros_like(labels))
    return F.cross_entropy(logits, known, ignore_index=NO_CLASS) * there.to(logits.dtype).mean()


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over rows (Hinton et al. 2015, section 2).

    Args:
        student, teacher: logits [batch, classes]. temperature: T > 0.
    """
    return ensemble_targets(student, [teacher], temperature)


def ensemble_targets(
    student: Tensor, teachers: Sequence[Tensor], temperature: float, weights: Sequence[float] | None = None
) -> Tensor:
    """`soft_targets` against the weighted mean of the teachers' probabilities, each taken at T.

    Args:
        student: logits [batch, classes]. teachers: at least one, the same shape. temperature: T > 0.
        weights: one a teacher, none negative, of sum 1; None: equal ones.
    """
    if weights is None:
        weights = [1 / len(teachers)] * len(teachers)
    shares = [math.log(weight) if weight else -math.inf for weight in weights]
    each = [F.log_softmax(full(teacher) / temperature, dim=-1) for teacher in teachers]
    log_p = torch.stack([log_t + share for log_t, share in zip(each, shares, strict=True)]).logsumexp(0)
    log_q = F.log_softmax(full(student) / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def ensemble_signal(
    student: Tensor, teachers: Sequence[Tensor], temperature: float, weights: Sequence[float], regression: bool
) -> Tensor:
    """`ensemble_targets`, or, for a task with scores, the squared error to the weighted mean of the teachers' scores.

    Args:
        weights: one a teacher, none negative, of sum 1.
    """
    if not regression:
        return ensemble_targets(student, teachers, temperature, weights)
    scores = torch.stack([weight * full(teacher) for weight, teacher in zip(weights, teachers, strict=True)])
    return F.mse_loss(full(student), scores.sum(0))


def teacher_signal(student: Tensor, teacher: Tensor, temperature: float, regression: bool) -> Tensor:
    """`soft_targets`, or, for a task with scores, the squared error to the teacher's score (no softmax there)."""
    if regression:
        return F.mse_loss(full(student), full(teacher))
    return soft_targets(student, teacher, temperature)


def soft_rows(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`soft_targets` row by row, [batch].

    Args:
        student, teacher: logits [batch, classes]. temperature: T > 0.
    """
    log_p, log_q = (F.log_softmax(full(logits) / temperature, dim=-1) for logits in (teacher, student))
    return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def logit_rows(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of logits, mean over classes, row by row: [batch].

    Args:
        student, teacher: logits [batch, classes].
    """
    return (full(student) - full(teacher)).square().mean(-1)


def soft_cross_entropy(student: Tensor, teacher_probabilities: Tensor, temperature: float) -> Tensor:
    """-sum_c p_c log softmax(student / T)_c, mean over rows; p: [batch, classes], rows sum to 1."""
    log_q = F.log_softmax(full(student) / temperature, dim=-1)
    return -(full(teacher_probabilities) * log_q).sum(-1).mean()


def entropy(probabilities: Tensor) -> Tensor:
    """-sum_c p_c log p_c per row, [batch]; 0 log 0 = 0."""
    return -torch.xlogy(full(probabilities), full(probabilities)).sum(-1)


def uncertainty(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) over the most it can be, ln classes: 0 (sure) to 1 (all classes alike), [batch].

    Li et al. 2021, section 3.

    Args:
        logits: [batch, classes], at least two classes.
    """
    log_p = F.log_softmax(full(logits), dim=-1)
    return -(log_p.exp() * log_p).sum(-1) / math.log(logits.shape[-1])
