"""Losses against mixtures of a teacher's layers. All reduce to the mean over rows, in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from kdcore.losses.hidden import row_means
from kdcore.losses.precision import full


def layer_shares(student: Tensor, teacher: Tensor, seen: Tensor, scale: float = 1.0) -> Tensor:
    """How much each student layer takes of each teacher layer: softmax over the teacher's layers of scale <s_j, t_i>
    (Passban et al. 2021). Shares of a student layer sum to 1.

    Args:
        student: [..., student layers, width]. teacher: [..., teacher layers, width], the same width.
        seen: bool [student layers, teacher layers], at least one of a row: which layers a student layer looks at.

    Returns:
        [..., student layers, teacher layers], float32.
    """
    products = full(student) @ full(teacher).transpose(-1, -2) * scale
    return products.masked_fill(~seen, -torch.inf).softmax(-1)


def mixture_mse(student: Tensor, teacher: Tensor, shares: Tensor, mask: Tensor | None = None) -> Tensor:
    """(s_j - sum_i a_ji t_i)^2, mean over width, a row's valid tokens and rows, sum over the student's layers.

    Args:
        student: [batch, student layers, width], or [batch, tokens, student layers, width] with a mask.
        teacher: the same with the teacher's layers. shares: a, from `layer_shares`.
        mask: [batch, tokens], 1 = a real token; None: states of one token.
    """
    apart = (full(student) - shares @ full(teacher)).square().mean(-1).sum(-1)
    return apart.mean() if mask is None else row_means(apart, mask).mean()
