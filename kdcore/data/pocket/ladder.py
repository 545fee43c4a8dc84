"""The pocket teachers: three sizes of equal width, so that layers and [CLS] states compare, trained from scratch."""

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
    dropout: float = 0.0
    seed: int = 0


LADDER: dict[str, Rung] = {
    "small": Rung(layers=2, width=64, heads=4, intermediate=128, epochs=8, lr=1e-3, batch_size=32),
    "medium": Rung(layers=3, width=64, heads=4, intermediate=128, epochs=10, lr=1e-3, batch_size=32),
    "large": Rung(layers=4, width=64, heads=4, intermediate=128, epochs=12, lr=1e-3, batch_size=32),
}


def rung(task: str, name: str) -> Rung:
    """The rung of this name for this task; all tasks share one ladder.

    Raises:
        KeyError: no such rung.
    """
    return LADDER[name]
