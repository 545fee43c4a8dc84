"""What the answers of several teachers weigh: how a method mixes them, and shares from scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kdcore.errors import UserError


@dataclass(frozen=True)
class Mixture:
    """How a method makes soft targets of the answers of several teachers.

    kind: mean, the target of each row is the weighted mean of all answers; draw, one teacher's answer is the target of
    a whole step, and the weighted mean is what is expected of it; rows, each row has the answer of one teacher;
    changing, the weights follow the student from step to step.
    weights: family of the `notes()` that hold each teacher's weight, such as weight for weight/large; empty: all alike.
    counted: family of the notes that hold how often each teacher was asked; empty: not counted.
    temperature: at which the probabilities are taken that are averaged.
    """

    kind: Literal["mean", "draw", "rows", "changing"]
    weights: str = ""
    counted: str = ""
    temperature: float = 1.0


def all_scores(scores: Mapping[str, float | None], field: str, rule: str, remedy: str) -> list[float]:
    """The score of each teacher.

    Args:
        field, rule: the setting and the choice in it that ask for scores. remedy: what to choose in its place.

    Raises:
        UserError: no one recorded a score of some teacher.
    """
    known = [score for score in scores.values() if score is not None]
    if len(known) < len(scores):
        missing = ", ".join(name for name, score in scores.items() if score is None)
        raise UserError(field, f"{rule} needs a score of {missing}", remedy)
    return known


def by_rank(scores: Sequence[float]) -> list[float]:
    """r_k / (n (n + 1) / 2), r = n for the best and 1 for the worst; ties share their mean rank; NaN is the worst."""
    values = [-math.inf if math.isnan(score) else score for score in scores]
    ranks = [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]
    return [rank / sum(ranks) for rank in ranks]


def by_softmax(scores: Sequence[float], spread: float) -> list[float]:
    """softmax(score / spread); a NaN counts as the worst score given."""
    worst = min((score for score in scores if not math.isnan(score)), default=0.0)
    values = [worst if math.isnan(score) else score for score in scores]
    weights = [math.exp((value - max(values)) / spread) for value in values]
    return [weight / sum(weights) for weight in weights]
