"""A run's layers compared with its teachers', at every snapshot of the training and at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.errors import UserError
from kdcore.layer_map import LayerMap, pairs, spread
from kdcore.methods import matched_layers
from kdcore.paths import run_dir
from kdcore.probes import snapshots
from kdcore.probes.snapshots import MEASURES, SnapshotReader
from kdcore.store import RunRow, Store

END = "kept student"
"""In place of a step: the weights that the run kept, the best by `select`."""

Matrices = Mapping[str, NDArray[np.float64]]
"""Measure -> [teacher layers + 1, student layers + 1]; all NaN where it is not defined."""


@dataclass(frozen=True)
class LayerTrajectory:
    """Layer distances of one run through its training.

    moments: step or `END` -> teacher -> matrices, in their order. tokens: moment -> how many tokens were compared.
    snapshots: those the run kept while it trained, if any.
    """

    row: RunRow
    moments: Mapping[str, Mapping[str, Matrices]]
    tokens: Mapping[str, int]
    snapshots: SnapshotReader | None

    def teachers(self) -> list[str]:
        """All that any moment has, in the run's order."""
        return list(dict.fromkeys(name for by_teacher in self.moments.values() for name in by_teacher))

    def moments_of(self, teacher: str) -> list[str]:
        """The moments at which the student was compared with this teacher."""
        return [moment for moment, by_teacher in self.moments.items() if teacher in by_teacher]

    def steps(self, teacher: str) -> list[int]:
        """Training steps of `moments_of`, without the end."""
        return [int(moment) for moment in self.moments_of(teacher) if moment != END]

    def values(self, teacher: str, measure: str, student_layer: int, teacher_layer: int) -> list[float]:
        """One pair of layers over `steps`."""
        matrices = (self.moments[str(step)][teacher][measure] for step in self.steps(teacher))
        return [float(matrix[teacher_layer, student_layer]) for matrix in matrices]

    def matrices(self, teacher: str, measure: str) -> list[NDArray[np.float64]]:
        """One matrix for each of `moments_of`."""
        return [self.moments[moment][teacher][measure] for moment in self.moments_of(teacher)]

    def depths(self, teacher: str) -> tuple[int, ...]:
        """Teacher layers + 1, student layers + 1."""
        return self.matrices(teacher, "cka")[0].shape

    def matching_moment(self, other: LayerTrajectory, moment: str, teacher: str) -> str:
        """The moment of this run that corresponds to one of another: as far in the training, or the end."""
        if moment == END or not self.steps(teacher):
            return self.moments_of(teacher)[-1]
        share = int(moment) / max(1, max(other.steps(next(iter(other.moments[moment])))))
        last = max(1, self.steps(teacher)[-1])
        return str(min(self.steps(teacher), key=lambda step: abs(step / last - share)))

    def layer_map(self, teacher: str) -> LayerMap:
        """The map that the method used with this teacher."""
        return layer_map(self.row, self.depths(teacher)[0] - 1)

    def matches_pairs(self, teacher: str) -> bool:
        """Whether the method matches layers, and each of the student's with one of the teacher's."""
        matched = self.layer_map(teacher)
        return bool(matched) and all(len(several) == 1 for several in matched.values())

    def pairs(self, teacher: str) -> list[tuple[int, int]]:
        """(student layer, teacher layer) to follow: the method's pairs, or evenly spread ones where it has none."""
        if self.matches_pairs(teacher):
            return list(pairs(self.layer_map(teacher)))
        teacher_depth, student_depth = self.depths(teacher)
        return list(spread(student_depth - 1, teacher_depth - 1).items())

    def applies(self, teacher: str, measure: str) -> bool:
        """Whether the measure has a meaning between this teacher and the student."""
        return bool(np.isfinite(self.matrices(teacher, measure)[0]).any())


def read_trajectory(store: Store, run: str) -> LayerTrajectory:
    """All that was measured of a run's layers; no moments where nothing was.

    Raises:
        UserError: no such run, or its snapshots cannot be read.
    """
    row = store.get(run)
    kept = snapshots.read(run_dir(run))
    moments: dict[str, Mapping[str, Matrices]] = {}
    tokens: dict[str, int] = {}
    if kept and kept.teachers:
        for step in kept.steps:
            moments[str(step)] = {name: _matrices(raw) for name, raw in kept.distances(step).items()}
            tokens[str(step)] = kept.compared_tokens
    final = _by_teacher(store.probes(run).get("distances", {}))
    if final:
        moments[END] = {name: _matrices(raw) for name, raw in final.items()}
        tokens[END] = int(next(iter(final.values())).get("tokens", 0))
    return LayerTrajectory(row, moments, tokens, kept)


def layer_map(row: RunRow, layers: int) -> LayerMap:
    """The map that a run's method used with a teacher of so many layers.

    Only depths matter to it, the student's as it was asked for. Empty where nothing is matched, or where the map was
    made for another of the run's teachers.
    """
    if row.broken:
        return {}
    try:
        return matched_layers(row.method, row.config.options, row.config.student.layers, layers)
    except UserError:
        return {}


def _matrices(raw: Mapping[str, Any]) -> Matrices:
    """As floats, NaN for None; a measure that was not kept is not defined."""
    undefined = np.full(np.shape(raw["cka"]), np.nan)
    return {measure: np.asarray(raw.get(measure, undefined), dtype=np.float64) for measure in MEASURES}


def _by_teacher(probe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Teacher -> its matrices (cka, cosine, mse: [teacher layers + 1, student layers + 1]; tokens), the first first."""
    first = {str(probe.get("teacher", "teacher")): probe} if "cka" in probe else {}
    others = probe.get("others")
    return first | {str(name): raw for name, raw in (others.items() if isinstance(others, Mapping) else ())}
