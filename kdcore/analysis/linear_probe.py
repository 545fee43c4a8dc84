"""What linear probes read out of the layers of a run's student and teacher, as the probe "linear_probe" has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdcore.probes.linear_probe import MOST_ROWS
from kdcore.store import Store

PROBE = "linear_probe"
STUDENT, TEACHER = "student", "teacher"
COLUMNS = ["model", "property", "layer", "depth", "accuracy", "low", "high"]
HOW = (
    "A logistic regression on a layer's frozen states predicts a property of the row; states are standardised, the "
    "strength of the regularisation is chosen on a third of the rows that it is fitted on. Dev rows "
    f"({MOST_ROWS:,} at most) are halved by a fixed seed: one half to fit on, the other to score. A row's vector is "
    "the mean of its tokens' states or the state of [CLS], which is the same in all rows at the embeddings. Bands: 95 "
    "% intervals over scored rows (Wilson); they speak neither for other seeds nor for other rows to fit on. Chance: "
    "all rows are given the most frequent class. What a probe finds the model need not use (Conneau et al. 2018, arXiv "
    "1805.01070)."
)


@dataclass(frozen=True)
class Property:
    """What was asked of the rows. chance: accuracy without any state. absent: why nothing is told, else empty."""

    key: str
    title: str
    classes: tuple[str, ...]
    chance: float
    absent: str


@dataclass(frozen=True)
class Gap:
    """The teacher's accuracy less the student's in the last layers of both, with its 95 % interval over rows."""

    value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class LinearProbes:
    """Of one run and pooling. rows: one a model ("student", "teacher"), property and layer, see `COLUMNS`: depth from
    0, the embeddings, to 1, the last layer; accuracy, low, high are fractions. gaps: property -> gap. score: how many
    rows were scored.
    """

    teacher: str
    score: int
    properties: tuple[Property, ...]
    rows: pd.DataFrame
    gaps: Mapping[str, Gap]

    def told(self) -> list[Property]:
        """The properties that something is known of."""
        return [one for one in self.properties if not one.absent]

    def layers(self, model: str) -> int:
        """How many layers "student" or "teacher" has."""
        return int(self.rows.loc[self.rows["model"] == model, "layer"].max())


def read_probes(store: Store, run: str, teacher: str, pooling: str) -> LinearProbes | None:
    """What was kept of a run with this teacher; None where it was not probed.

    Args:
        pooling: "mean" or "cls".
    """
    kept = store.probes(run).get(PROBE, {})
    if kept.get("teacher") != teacher:
        return None
    properties = tuple(_property(raw) for raw in kept["properties"])
    models = {STUDENT: kept["models"]["student"], TEACHER: kept["models"][teacher]}
    rows = [
        row for model, found in models.items() for key, of in found[pooling].items() for row in _rows(model, key, of)
    ]
    gaps = {key: Gap(**of) for key, of in kept["gaps"][pooling].items()}
    return LinearProbes(teacher, int(kept["score"]), properties, pd.DataFrame(rows, columns=COLUMNS), gaps)


def _property(raw: Mapping[str, Any]) -> Property:
    return Property(raw["key"], raw["title"], tuple(raw["classes"]), float(raw["chance"]), str(raw["absent"]))


def _rows(model: str, key: str, layers: list[Mapping[str, float]]) -> list[tuple[Any, ...]]:
    depths = np.linspace(0, 1, len(layers))
    return [
        (model, key, layer, float(depth), of["value"], of["low"], of["high"])
        for layer, (depth, of) in enumerate(zip(depths, layers, strict=True))
    ]
