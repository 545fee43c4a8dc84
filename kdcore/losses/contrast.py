"""Losses on how the rows of a batch relate to one another. All reduce to the mean over rows, in float32.

Row i of each matrix says how like the batch's other rows row i is, so batch composition changes these losses.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.precision import full


def sample_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(R(teacher) || R(student)) of R(c) = softmax(c c^T / sqrt(width)), mean over rows (Zhang et al. 2024, L_SS).

    The diagonal takes part; a batch of one row gives 0.

    Args:
        student: [batch, width of the student]. teacher: [batch, width of the teacher].
    """
    log_q, log_p = _log_similarity(student), _log_similarity(teacher)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def supervised_contrast(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """How unlike its own class a vector is, among the 2 batch vectors of both models (Zhang et al. 2024, L_SC).

    Of the vectors f scaled to length 1, for each f_i: -log(exp(f_i f_p / T) / sum_{a != i} exp(f_i f_a / T)), mean over
    all others f_p with its label. One of them is the same row's vector of the other model, so none lacks a positive.
    Then the mean over the vectors: log(2 batch - 1) where all coincide, 0 for a batch of one row.

    Args:
        student, teacher: [batch, width], the student's already projected to the teacher's width.
        labels: [batch]; rows are of one class where their labels are equal, scores too.
        temperature: T > 0.
    """
    vectors = F.normalize(torch.cat([full(student), full(teacher)]), dim=-1)
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    log_p = (vectors @ vectors.T / temperature).masked_fill(itself, -math.inf).log_softmax(-1)
    classes = labels.repeat(2)
    positive = (classes[:, None] == classes) & ~itself
    return -(log_p.masked_fill(~positive, 0).sum(-1) / positive.sum(-1)).mean()


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """(1 / batch^2) ||n(F_S F_S^T) - n(F_T F_T^T)||_F^2, n: rows scaled to length 1 (Tung and Mori 2019, section 3).

    Rotating the states or scaling them all alike changes nothing.

    Args:
        student: [batch, width of the student]. teacher: [batch, width of the teacher].
    """
    ours, theirs = (F.normalize(full(states) @ full(states).T, dim=-1) for states in (student, teacher))
    return (ours - theirs).square().mean()


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber(|f_i - f_j| / mu of the student - the same of the teacher), mean over pairs i != j of the batch; mu: a
    model's mean distance of such pairs (Park et al. 2019, section 3.2.1). 0 for a batch of one row.

    Args:
        student: [batch, width of the student]. teacher: [batch, width of the teacher].
    """
    rows, (ours, theirs) = len(student), map(_relative_distances, (student, teacher))
    return F.smooth_l1_loss(ours, theirs, reduction="sum") / max(1, rows * (rows - 1))


def relational_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber(cos of the angle at f_j between f_i and f_k in the student - the same in the teacher), mean over triplets
    of three rows of the batch (Park et al. 2019, section 3.2.2). 0 for a batch of fewer than three rows.

    Args:
        student: [batch, width of the student]. teacher: [batch, width of the teacher].
    """
    rows, (ours, theirs) = len(student), map(_angles, (student, teacher))
    return F.smooth_l1_loss(ours, theirs, reduction="sum") / max(1, rows * (rows - 1) * (rows - 2))


def _differences(states: Tensor) -> tuple[Tensor, Tensor]:
    """f_i - f_j at [j, i]: [batch, batch, width]; and their lengths, [batch, batch]."""
    apart = full(states)[None] - full(states)[:, None]
    return apart, torch.linalg.vector_norm(apart, dim=-1)


def _relative_distances(states: Tensor) -> Tensor:
    """|f_i - f_j| by the mean over the pairs i != j: [batch, batch]."""
    rows, (_, lengths) = len(states), _differences(states)
    mean = lengths.sum() / max(1, rows * (rows - 1))
    return lengths / mean.clamp(min=torch.finfo(lengths.dtype).tiny)


def _angles(states: Tensor) -> Tensor:
    """cos of the angle at j between i and k, 0 where these are not three rows: [j, i, k], each of the batch."""
    apart, lengths = _differences(states)
    # rows that coincide have no direction, and no gradient
    sides = apart / lengths.masked_fill(lengths == 0, 1)[:, :, None]
    itself = torch.eye(len(states), dtype=torch.bool, device=states.device)
    return (sides @ sides.transpose(1, 2)).masked_fill(itself, 0)


def _log_similarity(states: Tensor) -> Tensor:
    """log softmax(c c^T / sqrt(width)), [batch, batch]."""
    scaled = full(states) * states.shape[-1] ** -0.25
    result: Tensor = (scaled @ scaled.T).log_softmax(-1)
    return result
