"""A read-out that moves while a method trains, smoothed; it travels with checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningMean(nn.Module):
    """The mean over the first steps, and then one in which older steps fade.

    Args:
        start: its value before any step. steps: over about how many it goes.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, start: Tensor, steps: int = 50) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("mean", start.double().clone())
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def reset(self, start: Tensor) -> None:
        """Begins anew from this value."""
        self.mean.copy_(start)
        self.count.zero_()

    @torch.no_grad()
    def update(self, value: Tensor) -> None:
        """Takes in one step's value, of the mean's shape."""
        self.count += 1
        self.mean += (value.to(self.mean) - self.mean) / self.count.clamp(max=self.steps)
