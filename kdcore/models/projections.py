"""Linear maps that methods learn: from a student's width to a teacher's, and heads that start as BERT's do."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

STD = 0.02
"""Of the weights that BERT draws anew."""


def linears(names: Iterable[str], student: int, teacher: int, seed: int) -> nn.ModuleDict:
    """One linear map a name: the identity where widths are equal, so that equal models have no loss; else new weights
    of the seed that keep the scale of states. Biases are zero.

    Args:
        student, teacher: widths.
    """
    generator = torch.Generator().manual_seed(seed)
    return nn.ModuleDict({name: _linear(student, teacher, generator) for name in names})


def linear(student: int, teacher: int, seed: int) -> nn.Linear:
    """A single one of `linears`, the first of this seed."""
    return _linear(student, teacher, torch.Generator().manual_seed(seed))


def _linear(student: int, teacher: int, generator: torch.Generator) -> nn.Linear:
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, student, teacher)  # type: ignore[no-untyped-call]
    if student == teacher:
        nn.init.eye_(linear.weight)
    else:
        nn.init.normal_(linear.weight, std=student**-0.5, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


def new_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer that starts as BERT's do: weights of N(0, `STD`), biases of zero."""
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    nn.init.normal_(linear.weight, std=STD, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


class StackedLinear(nn.Module):
    """x W + b for states of several places (embedding output, layers): one W and b for all of them, or one for each.

    W starts as in `linears`.

    Args:
        places: how many W and b there are. student, teacher: widths. seed: of a random W.
    """

    def __init__(self, places: int, student: int, teacher: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        random = torch.randn(places, student, teacher, generator=generator) / math.sqrt(student)
        same = torch.eye(student).repeat(places, 1, 1)
        self.weight = nn.Parameter(same if student == teacher else random)
        self.bias = nn.Parameter(torch.zeros(places, 1, teacher))

    def forward(self, states: Tensor) -> Tensor:
        """[places, batch, tokens, student width] -> [places, batch, tokens, teacher width]."""
        result: Tensor = (states.flatten(1, 2) @ self.weight + self.bias).unflatten(1, states.shape[1:3])  # type: ignore[no-untyped-call]
        return result
