"""Losses on attention, head by head. All reduce to the mean over rows, in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdcore.losses.hidden import row_means
from kdcore.losses.precision import full


def score_mse(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Squared difference of raw attention scores Q K^T / sqrt(head width), summed over pairs of layers (Jiao et al.
    2020, section 3). Of a pair: mean over heads, over a row's valid tokens times its valid tokens, then over rows.

    Args:
        student, teacher: one [batch, heads, tokens, tokens] a pair of layers, in the same order, before mask and
            softmax: a constant added to a token's scores changes the loss, though not its attention.
        mask: [batch, tokens], 1 = a real token.

    Raises:
        ValueError: no pairs, lists of different lengths, or different numbers of heads.
    """
    if not student or len(student) != len(teacher):
        raise ValueError(f"{len(student)} student layers cannot be paired with {len(teacher)} of the teacher")
    # heads and pairs are joined before the padding is cleared: that then costs one matrix a row
    apart = torch.stack([_apart(*pair) for pair in zip(student, teacher, strict=True)]).sum(0)
    return row_means(row_means(apart, mask[:, None]), mask).mean()


def score_rows(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """`score_mse` of one pair of layers, row by row: [batch].

    Args:
        student, teacher: [batch, heads, tokens, tokens]. mask: [batch, tokens], 1 = a real token.

    Raises:
        ValueError: different numbers of heads.
    """
    return row_means(row_means(_apart(student, teacher), mask[:, None]), mask)


def _apart(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference, mean over heads: [batch, tokens, tokens]."""
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(f"the student has {student.shape[1]} attention heads and the teacher {teacher.shape[1]}")
    return (full(student) - full(teacher)).square().mean(1)
