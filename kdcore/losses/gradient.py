"""Losses on how a model's answer moves with its input: gradients at states, and what they say of each token."""

from __future__ import annotations

import torch
from torch import Tensor

from kdcore.losses.hidden import row_means
from kdcore.losses.precision import full


def log_odds(logits: Tensor) -> Tensor:
    """log p / (1 - p) of each class, [batch, classes].

    Its gradient is that of p or of log p times a positive number of each row, without their vanishing where the model
    is sure: what only uses a row's gradient up to its length takes this.

    Args:
        logits: [batch, classes], at least two classes.
    """
    logits = full(logits)
    itself = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    return logits - logits.unsqueeze(-2).masked_fill(itself, -torch.inf).logsumexp(-1)


def state_gradients(signal: Tensor, states: list[Tensor], graph: bool) -> list[Tensor]:
    """Of each row's signal with respect to its own states, each in its state's shape; 0 where none depends on it.

    Args:
        signal: [batch]. states: tensors [batch, ...] that the signal was computed from. graph: True: to be
            differentiated again. The graph of the signal stays in either case.
    """
    found = torch.autograd.grad(
        signal.sum(), states, create_graph=graph, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)


def direction(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference of gradients scaled to length 1, 2 - 2 cos: mean over a row's valid tokens, then rows; 0..4.

    Wang et al. 2022, as in their code, whose mean is over all tokens of a batch.

    Args:
        student, teacher: gradients [batch, tokens, width]. mask: [batch, tokens], 1 = a token that counts.
    """
    ours, theirs = _unit(student), _unit(teacher)
    return row_means((ours - theirs).square().sum(-1), mask).mean()


def ascent(state: Tensor, gradient: Tensor, length: float, mask: Tensor) -> Tensor:
    """Each row's state one step along its gradient, of `length` times its own length: [batch, tokens, width].

    The direction is Jafari et al. 2023's; that the gradient's size does not count is ours. A row whose gradient is 0
    stays, and so does padding.

    Args:
        state, gradient: [batch, tokens, width]. mask: [batch, tokens], 1 = a real token.
    """
    state, valid = full(state), mask.unsqueeze(-1)
    sizes = length * (valid * state).flatten(1).norm(dim=-1, keepdim=True)
    step: Tensor = sizes * _unit((valid * gradient).flatten(1))
    return state + step.view_as(state)


def saliency(gradient: Tensor, state: Tensor, top: int = 0) -> Tensor:
    """How much each token adds to the answer: length of gradient times state, [batch, tokens].

    Wu et al. 2023, integrated gradients in one step.

    Args:
        gradient, state: [batch, tokens, width]. top: of a token's products the largest so many count; 0: all.
    """
    products = full(gradient) * full(state)
    if top:
        products = products.gather(-1, products.abs().topk(top, dim=-1).indices)
    length: Tensor = products.norm(dim=-1)
    return length


def saliency_map(tokens: Tensor, mask: Tensor) -> Tensor:
    """The saliency of a row's valid tokens, scaled to length 1, [batch, tokens]; 0 on padding.

    Args:
        tokens: [batch, tokens]. mask: [batch, tokens], 1 = a real token.
    """
    return _unit(tokens.masked_fill(~mask.bool(), 0))


def attribution(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference of two saliency maps: mean over a row's valid tokens, then rows; 0..2.

    Args:
        student, teacher: saliency [batch, tokens], as `saliency` gives it. mask: [batch, tokens], 1 = a real token.
    """
    apart = saliency_map(student, mask) - saliency_map(teacher, mask)
    return row_means(apart.square(), mask).mean()


def _unit(vectors: Tensor) -> Tensor:
    """Each vector of the last dimension at length 1; one of zeros stays so, and passes no gradient on."""
    vectors = full(vectors)
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / length.where(length > 0, torch.inf)
