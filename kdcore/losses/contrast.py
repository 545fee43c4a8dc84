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


def _log_similarity(states: Tensor) -> Tensor:
    """log softmax(c c^T / sqrt(width)), [batch, batch]."""
    scaled = full(states) * states.shape[-1] ** -0.25
    result: Tensor = (scaled @ scaled.T).log_softmax(-1)
    return result
