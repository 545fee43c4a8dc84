"""Losses on how the tokens of a row relate to one another: matrices [tokens, tokens], whatever the width behind them.

All give the mean over heads, then over a row's valid tokens, then over rows, in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.hidden import row_means
from kdcore.losses.precision import full


def token_relations(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """KL(teacher || student) of self-relations softmax(X_a X_a^T / sqrt(d / heads)) (Wang et al. 2021, as in code by
    others). X_a is the a-th of `heads` contiguous blocks of a model's own vectors, so their widths d may differ.

    Args:
        student: [batch, tokens, width of the student]. teacher: [batch, tokens, width of the teacher].
        mask: [batch, tokens], 1 = a real token; padding is neither related nor related to.
        heads: blocks that both widths are split into.

    Raises:
        ValueError: `heads` does not divide a width.
    """
    log_q, log_p = log_relations(student, mask, heads), log_relations(teacher, mask, heads)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    return row_means(divergence.mean(1), mask).mean()


def attention_divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher || student) of attention distributions, head by head (Wang et al. 2020, section 3).

    Args:
        student, teacher: [batch, heads, tokens, tokens], what a token attends to on the last axis, summing to 1.
        mask: [batch, tokens], 1 = a real token.

    Raises:
        ValueError: the numbers of heads differ.
    """
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(f"the student has {student.shape[1]} attention heads and the teacher {teacher.shape[1]}")
    valid = mask.bool()
    padding = ~(valid[:, None, :, None] & valid[:, None, None, :])
    p, q = full(teacher).masked_fill(padding, 0), full(student).masked_fill(padding, 1)
    # a probability too small for its type is 0, whose logarithm would be infinite
    log_q = q.clamp(min=torch.finfo(q.dtype).tiny).log()
    return row_means((torch.xlogy(p, p) - p * log_q).sum(-1).mean(1), mask).mean()


def log_relations(states: Tensor, mask: Tensor, heads: int) -> Tensor:
    """log softmax(X_a X_a^T / sqrt(d / heads)) over the valid tokens: [batch, heads, tokens, tokens] for any width d.

    Raises:
        ValueError: `heads` does not divide d.
    """
    width = states.shape[-1]
    if heads < 1 or width % heads:
        raise ValueError(f"{heads} relation heads do not divide a width of {width}")
    valid = mask.bool()
    # the scale goes to both factors of the product, which are smaller than the product
    scaled = full(states).masked_fill(~valid[:, :, None], 0) * (width // heads) ** -0.25
    blocks = scaled.unflatten(-1, (heads, width // heads)).transpose(1, 2)
    scores = blocks @ blocks.transpose(-1, -2)
    # a finite floor: a row with no valid token would give 0 / 0
    result: Tensor = scores.masked_fill_(~valid[:, None, None, :], torch.finfo(scores.dtype).min).log_softmax(-1)
    return result


def merge_heads(tensor: Tensor) -> Tensor:
    """[batch, heads, tokens, head width] -> [batch, tokens, width], heads side by side in their order."""
    return tensor.transpose(1, 2).flatten(2)


def layer_flow(first: Tensor, last: Tensor, mask: Tensor) -> Tensor:
    """How the width of one layer flows into that of a later one: H_p^T H_q / n over a row's n valid tokens (Yim et al.
    2017, with tokens in place of pixels).

    Args:
        first, last: states [batch, tokens, width]. mask: [batch, tokens], 1 = a real token.

    Returns:
        [batch, width of the first, width of the last].
    """
    valid = mask.bool()
    kept = full(first).masked_fill(~valid[:, :, None], 0)
    flow: Tensor = kept.transpose(1, 2) @ full(last).masked_fill(~valid[:, :, None], 0)
    return flow / valid.sum(-1).clamp(min=1)[:, None, None]


def flow_mse(
    student_first: Tensor, student_last: Tensor, teacher_first: Tensor, teacher_last: Tensor, mask: Tensor
) -> Tensor:
    """Squared difference of the flows of student and teacher: mean over their entries, then rows.

    Args:
        student_first, ..., teacher_last: states [batch, tokens, width], one width. mask: as in `layer_flow`.
    """
    ours, theirs = layer_flow(student_first, student_last, mask), layer_flow(teacher_first, teacher_last, mask)
    return F.mse_loss(ours, theirs)
