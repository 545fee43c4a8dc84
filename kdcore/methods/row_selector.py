"""A policy that takes rows or leaves them, and learns by a reward which to take."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from kdcore.methods.running_mean import RunningMean
from kdcore.models.projections import linear

BASELINE_EPISODES = 10
"""Over about how many episodes the reward is averaged that a new one is compared with."""


START = 1.0
"""Logit of p at first: about three of four rows, so that the policy has to learn to leave rows out."""


class RowSelector(nn.Module):
    """p(x) = sigmoid(w relu(W x + b) + c); it begins with sigmoid(START) of the rows.

    What an episode adds up lives in buffers, so that a run may stop inside it.

    Args:
        seen: numbers that are seen of a row. width: of the hidden layer.
    """

    gradient: Tensor
    rows: Tensor
    reward: Tensor

    def __init__(self, seen: int, width: int, seed: int) -> None:
        super().__init__()
        self.first, self.last = linear(seen, width, seed), linear(width, 1, seed)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, START)
        count = sum(parameter.numel() for parameter in self.parameters())
        self.register_buffer("gradient", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("rows", torch.zeros((), dtype=torch.float64))
        self.register_buffer("reward", torch.zeros((), dtype=torch.float64))
        self.baseline = RunningMean(torch.zeros(()), BASELINE_EPISODES)

    def forward(self, state: Tensor) -> Tensor:
        """The logit of p: [rows, seen] -> [rows]."""
        logits: Tensor = self.last(self.first(state).relu())[:, 0]
        return logits

    def score(self, state: Tensor, chosen: Tensor) -> Tensor:
        """The gradient of log(chance of what was drawn) with respect to the parameters, sum over rows (Williams 1992):
        float64 [parameters].

        Args:
            state: [rows, seen]. chosen: [rows] of 0 and 1.
        """
        logits = self(state)
        log_chance = -F.binary_cross_entropy_with_logits(logits, chosen.to(logits), reduction="sum")
        gradients = torch.autograd.grad(log_chance, list(self.parameters()))
        return torch.cat([gradient.flatten() for gradient in gradients]).double()

    def add(self, score: Tensor, rows: Tensor) -> None:
        """Takes a score over so many rows into the episode."""
        self.gradient += score
        self.rows += rows

    def learn(self, reward: float, optimizer: Optimizer) -> None:
        """Ends the episode: moves to where what was drawn is likelier, if it earned more than before, else less likely.

        The first episode only sets what later ones are compared with.
        """
        self.reward.fill_(reward)
        if int(self.baseline.count) and self.rows:
            slope = -(reward - float(self.baseline.mean)) * self.gradient / self.rows
            parameters = list(self.parameters())
            parts = slope.split([parameter.numel() for parameter in parameters])  # type: ignore[no-untyped-call]
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.grad = part.view_as(parameter).to(parameter)
            optimizer.step()
            optimizer.zero_grad()
        self.baseline.update(self.reward)
        self.gradient.zero_()
        self.rows.zero_()

    def notes(self) -> dict[str, float]:
        """The last episode's reward and the mean of those so far; nothing before the first has ended."""
        if not int(self.baseline.count):
            return {}
        return {"reward/last episode": float(self.reward), "reward/mean": float(self.baseline.mean)}
