"""Predictions of a run's models, written into its folder as the engine would keep them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from kdcore.paths import run_dir

ROWS = 300
IDS = 1_000_000_000 + np.arange(ROWS)
GOLD = np.random.default_rng(0).integers(0, 2, ROWS)


def logits(right: ArrayLike) -> np.ndarray:
    """Sure answers [ROWS, 2], right in these rows."""
    return 3.0 * np.eye(2)[np.where(np.asarray(right, dtype=bool), GOLD, 1 - GOLD)]


def answers(skill: float, seed: int) -> np.ndarray:
    """Answers that are right in about this share of the rows."""
    return logits(np.random.default_rng(seed).random(ROWS) < skill)


def keep(run: str, models: Mapping[str, np.ndarray], split: str = "validation") -> None:
    """models: "student" or a teacher's name -> logits [ROWS, outputs]."""
    folder = run_dir(run) / "predictions"
    folder.mkdir(parents=True)
    for name, given in models.items():
        np.savez(folder / f"{split}.{name}.npz", logits=given, labels=GOLD, ids=IDS)
