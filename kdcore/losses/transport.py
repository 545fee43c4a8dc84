"""Costs between all layers of two models, and the cheapest transport between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from kdcore.losses.precision import full


def state_costs(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Squared difference of token states of every pair of layers, as `hidden.token_mse` has it for one: mean over
    width, a row's valid tokens, then rows.

    Args:
        student, teacher: one [batch, tokens, width] a layer, equal widths. mask: [batch, tokens], 1 = a real token.

    Returns:
        [student layers, teacher layers], float32.
    """
    valid = mask.double()
    share = valid / valid.sum(-1, keepdim=True).clamp(min=1) / (len(mask) * student[0].shape[-1])
    return _squared_distances(_weight_layers(student, share[:, :, None]), _weight_layers(teacher, share[:, :, None]))


def score_costs(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Squared difference of raw attention scores of every pair of layers, as `attention.score_mse` has it for one: mean
    over heads, a row's valid tokens times its valid tokens, then rows.

    Args:
        student, teacher: one [batch, heads, tokens, tokens] a layer, before mask and softmax, equal numbers of heads.
        mask: [batch, tokens], 1 = a real token.

    Returns:
        [student layers, teacher layers], float32.
    """
    valid = mask.double()
    share = valid / valid.sum(-1, keepdim=True).clamp(min=1)
    share = share[:, None, :, None] * share[:, None, None, :] / (len(mask) * student[0].shape[1])
    return _squared_distances(_weight_layers(student, share), _weight_layers(teacher, share))


def transport_plan(costs: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
    """argmin_F sum F D, F >= 0, row sums `student`, column sums `teacher` (Li et al. 2020), by linear programming.

    It is solved on the CPU and has no graph. Where costs are not finite there is no cheapest plan; the masses' product
    stands for it, so that the loss is not finite either and says so.

    Args:
        costs: [student layers, teacher layers]. student, teacher: masses that sum to 1 each.

    Returns:
        float64 [student layers, teacher layers] on the CPU.
    """
    ours, theirs = (mass.detach().double().cpu().numpy() for mass in (student, teacher))
    ours, theirs = ours / ours.sum(), theirs / theirs.sum()
    values = costs.detach().double().cpu().numpy()
    if not np.isfinite(values).all():
        return torch.from_numpy(np.outer(ours, theirs))
    rows, columns = np.kron(np.eye(len(ours)), np.ones(len(theirs))), np.kron(np.ones(len(ours)), np.eye(len(theirs)))
    # the last column's sum follows from the others
    found = linprog(
        values.ravel(), A_eq=np.vstack([rows, columns[:-1]]), b_eq=np.concatenate([ours, theirs[:-1]]), method="highs"
    )
    if found.x is None:
        raise RuntimeError(f"no transport between {len(ours)} and {len(theirs)} layers: {found.message}")
    return torch.from_numpy(np.clip(found.x, 0, None).reshape(values.shape))


def unit_costs(plan: Tensor, costs: Tensor, dim: int) -> Tensor:
    """What the plan costs each layer for a unit of its mass; 0 where it has none.

    Args:
        plan, costs: [student layers, teacher layers]. dim: 1 for the student's layers, 0 for the teacher's.
    """
    mass = plan.sum(dim)
    return torch.where(mass > 0, (plan * costs).sum(dim) / mass.clamp(min=torch.finfo(plan.dtype).tiny), 0.0)


def _weight_layers(layers: Sequence[Tensor], share: Tensor) -> Tensor:
    """Each layer as one vector whose squared length is its weighted mean square; weight 0 is 0, whatever is there."""
    root = share.sqrt().to(full(layers[0]).dtype)
    return torch.stack([torch.where(root > 0, full(layer) * root, 0.0).flatten() for layer in layers])


def _squared_distances(student: Tensor, teacher: Tensor) -> Tensor:
    """|s|^2 + |t|^2 - 2 <s, t> of every pair: one product, where all differences would take a matrix a pair."""
    squares = student.square().sum(-1)[:, None] + teacher.square().sum(-1)[None]
    return (squares - 2 * student @ teacher.T).clamp(min=0)
