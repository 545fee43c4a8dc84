"""The points of the run that a session follows: everything is read once, then only what is new."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.analysis.series import Series
from kdcore.store import RunRow, Store
from pages.parts.common.keys import LIVE_POINTS

KINDS = ("loss", "raw", "weighted", "gradient_share", "note")


@dataclass
class Quantity:
    """One quantity's steps and values as they came; both grow."""

    step: array[float] = field(default_factory=lambda: array("d"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Copies: an array that numpy views could not grow."""
        return np.array(self.step), np.array(self.value)


@dataclass
class CachedPoints:
    """One run's points up to `step`.

    life: of the run, see `life`.
    version: changes when there is something new to draw.
    """

    life: tuple[object, ...]
    step: int = -1
    version: int = 0
    quantities: dict[tuple[str, str], Quantity] = field(default_factory=dict)
    last: dict[tuple[str, str, str], tuple[int, float]] = field(default_factory=dict)

    def read(self, store: Store, row: RunRow) -> None:
        """Reads what was logged since the last time. While the run is active, only up to the step of its row: later
        points are left over from before a resume."""
        step = _step(row)
        if step == self.step:
            return
        for point in store.points(row.id, self.step, KINDS):
            if row.active and point.step > step:
                break
            value = float("nan") if point.value is None else point.value
            quantity = self.quantities.setdefault((point.kind, point.name), Quantity())
            quantity.step.append(point.step)
            quantity.value.append(value)
            self.last[point.stage, point.kind, point.name] = point.step, value
        self.step, self.version = step, self.version + 1

    def series(self) -> Series:
        """All points, by kind and name, in the order in which these were logged first."""
        return {key: quantity.arrays() for key, quantity in self.quantities.items()}

    def latest(self) -> pd.DataFrame:
        """The last value of each stage and quantity: stage, step, kind, name, value."""
        rows = [(stage, step, kind, name, value) for (stage, kind, name), (step, value) in self.last.items()]
        return pd.DataFrame(rows, columns=["stage", "step", "kind", "name", "value"])


def cached_points(store: Store, row: RunRow) -> CachedPoints:
    """The points of this run, kept in the session from one drawing to the next."""
    points: CachedPoints | None = st.session_state.get(LIVE_POINTS)
    if points is None or points.life != life(row) or _step(row) < points.step:
        points = CachedPoints(life(row), version=points.version + 1 if points else 0)
    points.read(store, row)
    st.session_state[LIVE_POINTS] = points
    return points


def life(row: RunRow) -> tuple[object, ...]:
    """Changes where what was read of the run may be rewritten: by a resume, or at its end."""
    return (row.id, row.active, row.facts.get("resumed_at"))


def _step(row: RunRow) -> int:
    step = row.progress.get("step")
    return step if isinstance(step, int) else 0
