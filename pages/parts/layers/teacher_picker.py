"""A run's layers beside its teachers', at every moment that was kept and at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kdcore.errors import UserError
from kdcore.figures.layer_pair import Line
from kdcore.layer_map import spread
from kdcore.methods import matched_layers
from kdcore.probes.snapshots import MEASURES, Kept
from kdcore.store import RunRow, Store
from pages.parts.common import snapshot_slider

Matrices = Mapping[str, NDArray[np.float64]]
"""Measure -> [teacher layers + 1, student layers + 1]; all NaN where it is not defined."""


@dataclass(frozen=True)
class Course:
    """moments: step or `moments.END` -> teacher -> matrices, in their order. tokens: how many each was taken over."""

    row: RunRow
    moments: Mapping[str, Mapping[str, Matrices]]
    tokens: Mapping[str, int]
    kept: Kept | None

    def teachers(self) -> list[str]:
        """All that a moment knows, in the run's order."""
        return list(dict.fromkeys(name for found in self.moments.values() for name in found))

    def words(self, teacher: str) -> list[str]:
        """The moments at which this teacher was looked at."""
        return [word for word, found in self.moments.items() if teacher in found]

    def steps(self, teacher: str) -> list[int]:
        return [int(word) for word in self.words(teacher) if word != snapshot_slider.END]

    def line(self, teacher: str, measure: str, student: int, other: int) -> list[float]:
        """One cell over `steps`. student, other: the layers of student and teacher."""
        found = (self.moments[str(step)][teacher][measure] for step in self.steps(teacher))
        return [float(matrix[other, student]) for matrix in found]

    def every(self, teacher: str, measure: str) -> list[NDArray[np.float64]]:
        return [self.moments[word][teacher][measure] for word in self.words(teacher)]

    def like(self, other: Course, moment: str, teacher: str) -> str:
        """The moment of this run that answers to one of another: as far in the training, or kept at its end."""
        own = self.words(teacher)
        if moment == snapshot_slider.END or not self.steps(teacher):
            return own[-1]
        share = int(moment) / max(1, max(other.steps(next(iter(other.moments[moment])))))
        last = max(1, self.steps(teacher)[-1])
        return str(min(self.steps(teacher), key=lambda step: abs(step / last - share)))

    def layer_map(self, teacher: str) -> dict[int, int]:
        """The map that the method used with this teacher."""
        return layer_map(self.row, len(self.every(teacher, "cka")[0]) - 1)

    def pairs(self, teacher: str) -> dict[int, int]:
        """Student layer -> teacher layer to follow: the method's map, or an even one where it matches none."""
        deep, wide = self.every(teacher, "cka")[0].shape
        return self.layer_map(teacher) or spread(wide - 1, deep - 1)

    def defined(self, teacher: str, measure: str) -> bool:
        """Whether it has a meaning between this teacher and the student."""
        return bool(np.isfinite(self.every(teacher, measure)[0]).any())

    def lines(
        self, teacher: str, measure: str, pairs: Iterable[tuple[int, int]], stem: str = "", beside: bool = False
    ) -> list[Line]:
        """These pairs of layers over the training steps, as far as both models have them; none with one moment alone.

        pairs: student and teacher layer. stem: before each name. beside: of the second run in a plot.
        """
        steps, (deep, wide) = self.steps(teacher), self.every(teacher, "cka")[0].shape
        if len(steps) < 2 or not self.defined(teacher, measure):
            return []
        return [
            Line(f"{stem}{s} ↔ {t}", steps, self.line(teacher, measure, s, t), at, beside)
            for at, (s, t) in enumerate(pairs)
            if s < wide and t < deep
        ]


def of_run(store: Store, run: str) -> Course:
    """All that was measured of a run's layers; no moments where nothing was.

    Raises:
        UserError: what was kept does not read.
    """
    row = store.get(run)
    kept = snapshot_slider.of_run(run)
    found: dict[str, Mapping[str, Matrices]] = {}
    tokens: dict[str, int] = {}
    if kept and kept.teachers:
        for step in kept.steps:
            found[str(step)] = {name: _matrices(one) for name, one in kept.distances(step).items()}
            tokens[str(step)] = kept.compared_tokens
    last = _by_teacher(store.probes(run).get("distances", {}))
    if last:
        found[snapshot_slider.END] = {name: _matrices(one) for name, one in last.items()}
        tokens[snapshot_slider.END] = int(next(iter(last.values())).get("tokens", 0))
    return Course(row, found, tokens, kept)


def layer_map(row: RunRow, layers: int) -> dict[int, int]:
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


def one_teacher(names: list[str]) -> str:
    """A list box over teachers, tied to `?teacher=`; none where there is one alone."""
    if len(names) == 1:
        return names[0]
    if st.session_state.get("teacher") not in (None, *names):
        st.session_state["teacher"] = names[0]  # of another run
    picked = st.selectbox("Teacher", names, key="teacher", bind="query-params")
    return picked if picked in names else names[0]


def _matrices(found: Mapping[str, Any]) -> Matrices:
    """As floats, NaN for None; a measure that was not kept is not defined."""
    hollow = np.full(np.shape(found["cka"]), np.nan)
    return {measure: np.asarray(found.get(measure, hollow), dtype=np.float64) for measure in MEASURES}


def _by_teacher(probe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Teacher -> its matrices (cka, cosine, mse: [teacher layers + 1, student layers + 1]; tokens), the first first."""
    found = {str(probe.get("teacher", "teacher")): probe} if "cka" in probe else {}
    others = probe.get("others")
    return found | {str(name): one for name, one in (others.items() if isinstance(others, Mapping) else ())}
