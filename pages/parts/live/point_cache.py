"""What a session has read of the run it watches: everything once, then only what is new."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.analysis.series import Series
from kdcore.store import RunRow, Store

KINDS = ("loss", "raw", "weighted", "gradient_share", "note")
_KEY = "followed"


@dataclass
class Points:
    """One quantity's steps and values as they came; both grow."""

    step: array[float] = field(default_factory=lambda: array("d"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Copies: an array that is looked at could not grow."""
        return np.array(self.step), np.array(self.value)


@dataclass
class Followed:
    """One run's points up to `step`.

    life: of the run, see `life`.
    version: changes when there is something new to draw.
    """

    life: tuple[object, ...]
    step: int = -1
    version: int = 0
    points: dict[tuple[str, str], Points] = field(default_factory=dict)
    last: dict[tuple[str, str, str], tuple[int, float]] = field(default_factory=dict)

    def read(self, store: Store, row: RunRow) -> None:
        """Takes what was logged since the last time. While the run is under way, only up to the step that its row
        tells: what lies behind it is left over from before a resume."""
        step = _step(row)
        if step == self.step:
            return
        for point in store.points(row.id, self.step, KINDS):
            if row.active and point.step > step:
                break
            value = float("nan") if point.value is None else point.value
            known = self.points.setdefault((point.kind, point.name), Points())
            known.step.append(point.step)
            known.value.append(value)
            self.last[point.stage, point.kind, point.name] = point.step, value
        self.step, self.version = step, self.version + 1

    def series(self) -> Series:
        """All points, by kind and name, in the order in which these were logged first."""
        return {key: points.arrays() for key, points in self.points.items()}

    def latest(self) -> pd.DataFrame:
        """Of each stage and quantity the last value: stage, step, kind, name, value."""
        rows = [(stage, step, kind, name, value) for (stage, kind, name), (step, value) in self.last.items()]
        return pd.DataFrame(rows, columns=["stage", "step", "kind", "name", "value"])


def follow(store: Store, row: RunRow) -> Followed:
    """The points of this run, kept in the session from look to look."""
    held: Followed | None = st.session_state.get(_KEY)
    if held is None or held.life != life(row) or _step(row) < held.step:
        held = Followed(life(row), version=held.version + 1 if held else 0)
    held.read(store, row)
    st.session_state[_KEY] = held
    return held


def life(row: RunRow) -> tuple[object, ...]:
    """Changes where what was read of the run may be rewritten: by a resume, or at its end."""
    return (row.id, row.active, row.facts.get("resumed_at"))


def _step(row: RunRow) -> int:
    step = row.progress.get("step")
    return step if isinstance(step, int) else 0
