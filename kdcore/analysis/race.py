"""Two runs on one clock: what each had reached at every moment, who led, and when each was over.

The clock counts training steps, or each run's own seconds of training. Between two of its points a run holds what was
measured last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdcore.analysis.series import student_scores, with_clock

Floats = NDArray[np.float64]
Clock = Literal["step", "seconds"]
"""What the clock counts; a column of `Store.metrics`."""


@dataclass(frozen=True)
class Track:
    """What one run logged of one quantity: the clock (ascending), steps and values, each [points]."""

    clock: Floats
    steps: Floats
    values: Floats

    def at(self, clock: float) -> int:
        """Number of the point that holds at this time; -1 before the first."""
        return int(np.searchsorted(self.clock, clock, side="right")) - 1


@dataclass(frozen=True)
class Racer:
    """One run of the race. end: the clock at its last step. scores: fractions, more is better. unit: of the clock."""

    name: str
    method: str
    end: float
    scores: Track
    losses: Track
    unit: Clock = "seconds"


@dataclass(frozen=True)
class Replay:
    """What a browser needs to play the figure: where the clock ends, which comment stands from when, and its unit."""

    end: float
    comments: tuple[tuple[float, str], ...]
    unit: Clock = "seconds"


def moments(first: Racer, second: Racer) -> pd.DataFrame:
    """One row for each time at which something happens: a score, or an end.

    Returns:
        The clock, named by its unit; step and score (fraction) of each, NaN before its first; lead: first's score less
        second's; comment: who leads, as a sentence.
    """
    racers = (first, second)
    times = sorted({0.0, *(float(time) for racer in racers for time in (*racer.scores.clock, racer.end))})
    rows = []
    for time in times:
        points = [racer.scores.at(time) for racer in racers]
        steps, scores = (
            [float(values[point]) if point >= 0 else np.nan for values, point in zip(columns, points, strict=True)]
            for columns in ([racer.scores.steps for racer in racers], [racer.scores.values for racer in racers])
        )
        rows.append([time, *steps, *scores, scores[0] - scores[1]])
    columns = [first.unit, "step of first", "step of second", "first", "second", "lead"]
    table = pd.DataFrame(rows, columns=columns)
    table["comment"] = [_comment(table.iloc[row], first, second, table["lead"][: row + 1]) for row in range(len(table))]
    return table


def replay(table: pd.DataFrame) -> Replay:
    """The rows of `moments` as a browser plays them."""
    unit: Clock = "step" if table.columns[0] == "step" else "seconds"
    return Replay(float(table[unit].iloc[-1]), tuple(zip(table[unit], table["comment"], strict=True)), unit)


def _comment(row: pd.Series, first: Racer, second: Racer, leads: pd.Series) -> str:
    """What a commentator would say at this row, given the leads so far."""
    known = [
        f"{racer.name} {100 * row[key]:.1f} at step {row[f'step of {key}']:.0f}"
        for racer, key in ((first, "first"), (second, "second"))
        if row[key] == row[key]
    ]
    ended = [racer for racer in (first, second) if row[first.unit] >= racer.end]
    over = len(ended) == 2
    lead = 100 * row["lead"]
    if not known:
        comment = "No score yet."
    elif len(known) == 1:
        silent = second if row["first"] == row["first"] else first
        comment = f"{known[0]}; {silent.name} has no score{'' if over else ' yet'}."
    elif round(lead, 1) == 0:
        comment = f"Level: {', '.join(known)}."
    else:
        ahead, known = (first, known) if lead > 0 else (second, known[::-1])
        comment = f"{ahead.name} {'is ahead at the end' if over else 'leads'} by {abs(lead):.1f}: {', '.join(known)}."
    if changes := _changes(leads) if over else 0:
        comment += f" The lead changed {'once' if changes == 1 else f'{changes} times'}."
    ends = [f"{racer.name} ended {_when(racer)}" for racer in sorted(ended, key=lambda racer: racer.end)]
    if over and first.unit == "step" and first.end == second.end:
        ends = [f"Both ended {_when(first)}"]
    return f"{comment} {', '.join(ends)}." if ends else comment


def _when(racer: Racer) -> str:
    return f"at step {racer.end:.0f}" if racer.unit == "step" else f"after {racer.end:.1f} s"


def _changes(leads: pd.Series) -> int:
    """How often the one ahead was another than before; a level score changes nothing."""
    signs = np.sign(leads.dropna().to_numpy())
    signs = signs[signs != 0]
    return int((signs[1:] != signs[:-1]).sum())


def racer(
    run: str,
    method: str,
    name: str,
    evaluations: pd.DataFrame,
    metrics: pd.DataFrame,
    metric: str,
    unit: Clock = "seconds",
) -> Racer | None:
    """A run's dev scores and losses over its own clock; None where it has logged no step."""
    logged = metrics[(metrics["run"] == run) & (metrics["kind"] == "loss")]
    if logged[unit].notna().sum() == 0:
        return None
    scored = student_scores(evaluations[evaluations["run"] == run], metric, False)
    scores = with_clock(scored, metrics, unit)
    return Racer(name, method, float(logged[unit].max()), _track(scores, unit), _track(logged, unit), unit)


def _track(points: pd.DataFrame, unit: Clock) -> Track:
    points = points[points[unit].notna() & points["value"].notna()].sort_values(unit, kind="stable")
    return Track(*(points[column].to_numpy(dtype=np.float64) for column in (unit, "step", "value")))
