"""The pocket teachers: three sizes, trained from scratch on the task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """A teacher's size and how it is trained: AdamW, linear schedule with a tenth of warm-up, weight decay 0.01."""

    layers: int
    width: int
    heads: int
    intermediate: int
    epochs: float
    lr: float
    batch_size: int
    dropout: float = 0.1
    seed: int = 0


LADDER: dict[str, Rung] = {
    "small": Rung(2, 64, 4, 128, 8, 1e-3, 32),
    "medium": Rung(3, 64, 4, 128, 10, 1e-3, 32),
    "large": Rung(4, 64, 4, 128, 12, 1e-3, 32),
}


def rung(task: str, name: str) -> Rung:
    """The rung of this task."""
    return LADDER[name]
