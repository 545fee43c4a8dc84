"""One teacher drawn at each step, and how often each was; for methods that ask one of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Generator


class Draws:
    """How often each teacher was drawn. It is no module: a method keeps `counts` in its history.

    Args:
        teachers: their names.
    """

    def __init__(self, teachers: Iterable[str]) -> None:
        self.counts: dict[str, int] = dict.fromkeys(teachers, 0)

    @property
    def total(self) -> int:
        """How many draws were counted."""
        return sum(self.counts.values())

    def draw(self, chances: Mapping[str, float], rng: Generator) -> str:
        """A teacher's name. It is not counted: a batch that is split into parts draws once a part, and alike.

        Args:
            chances: teacher -> how likely it is drawn, of sum 1. rng: the step's.
        """
        names = list(chances)
        weights = torch.tensor([chances[name] for name in names], dtype=torch.float64)
        return names[int(torch.multinomial(weights, 1, generator=rng))]

    def count(self, names: Iterable[str]) -> None:
        """Takes in those that a step asked."""
        for name in names:
            self.counts[name] += 1

    def restore(self, counts: object) -> None:
        """Puts back what a checkpoint kept of `counts`."""
        assert isinstance(counts, Mapping)
        self.counts = {name: int(counts.get(name, 0)) for name in self.counts}

    def notes(self, chances: Mapping[str, float]) -> dict[str, float]:
        """Each teacher's share of the draws so far, of which there is one at least, and the chance it was given."""
        shares = {f"draws/{name}": count / self.total for name, count in self.counts.items()}
        return shares | {f"chance/{name}": chance for name, chance in chances.items()}
