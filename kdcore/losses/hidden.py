"""Losses on [CLS] and token states. All reduce to the mean over rows, in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.precision import full


def patience(student: Sequence[Tensor], teacher: Sequence[Tensor], normalise: bool) -> Tensor:
    """Squared difference of paired [CLS] states, mean over rows, layers and width (Sun et al. 2019, as in their code).

    Normalised states give the mean of (2 - 2 cos) / width, which lies in 0..4 / width.

    Args:
        student, teacher: one [batch, width] a pair of layers, in the same order.
        normalise: scale each state to length 1 first.

    Raises:
        ValueError: no pairs, or lists of different lengths.
    """
    _check_pairs(student, teacher)
    ours, theirs = full(torch.stack(tuple(student), dim=1)), full(torch.stack(tuple(teacher), dim=1))
    if normalise:
        ours, theirs = F.normalize(ours, dim=-1), F.normalize(theirs, dim=-1)
    return F.mse_loss(ours, theirs)


def token_patience(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor, normalise: bool) -> Tensor:
    """`patience` on every valid token's state: mean over width, layers and a row's valid tokens, then over rows.

    Args:
        student, teacher: one [batch, tokens, width] a pair of layers, in the same order.
        mask: [batch, tokens], 1 = a real token.
        normalise: scale each token's state to length 1 first.

    Raises:
        ValueError: as in `patience`.
    """
    _check_pairs(student, teacher)
    if normalise:
        student, teacher = ([F.normalize(full(state), dim=-1) for state in states] for states in (student, teacher))
    return torch.stack([token_mse(ours, theirs, mask) for ours, theirs in zip(student, teacher, strict=True)]).mean()


def cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """1 - cos of the states token by token: mean over a row's valid tokens, then over rows; 0..2.

    Args:
        student, teacher: [batch, tokens, width]. mask: [batch, tokens], 1 = a real token.
    """
    return row_means(1 - F.cosine_similarity(full(student), full(teacher), dim=-1), mask).mean()


def token_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference of token states: mean over width, a row's valid tokens, then rows (Jiao et al. 2020, sec. 3).

    Args:
        student, teacher: [..., batch, tokens, width], such as layers stacked: each gets its own value, [...].
        mask: [batch, tokens], 1 = a real token.
    """
    return row_means((full(student) - full(teacher)).square().mean(-1), mask).mean(-1)


def attention_transfer(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """||q_S / |q_S| - q_T / |q_T|||, mean over rows, summed over pairs of layers; q: squared states, mean over width, a
    vector over a row's valid tokens (Zagoruyko and Komodakis 2017, section 3.1, with tokens for places of an image).

    Args:
        student, teacher: one [batch, tokens, width] a pair of layers, in the same order; widths may differ.
        mask: [batch, tokens], 1 = a real token.

    Raises:
        ValueError: as in `patience`.
    """
    _check_pairs(student, teacher)
    apart = [
        torch.linalg.vector_norm(_energy(ours, mask) - _energy(theirs, mask), dim=-1)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(apart).sum(0).mean()


def _energy(states: Tensor, mask: Tensor) -> Tensor:
    """Each valid token's share of a row's squared states, a vector of length 1: [batch, tokens]."""
    return F.normalize(full(states).square().mean(-1).masked_fill(~mask.bool(), 0), dim=-1)


def content_means(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of a row's token states without the first, [CLS], float32 [batch, width]; 0 of a row of one token.

    Args:
        states: [batch, tokens, width]. mask: [batch, tokens], 1 = a real token.
    """
    valid = mask[:, 1:, None].bool()
    return full(states[:, 1:]).masked_fill(~valid, 0).sum(1) / valid.sum(1).clamp(min=1)


def row_means(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each row's valid tokens, [batch]. Padded positions count for nothing, whatever they hold.

    Args:
        values, mask: [batch, tokens], 1 = a real token; a row with no real token gives 0.
    """
    valid = mask.bool()
    return values.masked_fill(~valid, 0).sum(-1) / valid.sum(-1).clamp(min=1)


def _check_pairs(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    """A loss over nothing would be zero and say nothing."""
    if not student or len(student) != len(teacher):
        raise ValueError(f"patience pairs {len(student)} student layers with {len(teacher)} of the teacher")
