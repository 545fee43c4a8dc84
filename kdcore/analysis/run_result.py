"""What one run came to: its score, beside its teacher's and that of training alone, and how much faster it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdcore.analysis.comparison import over_fine_tuning
from kdcore.analysis.cost_table import timings
from kdcore.analysis.teacher_scores import teacher_scores
from kdcore.store import Store


@dataclass(frozen=True)
class RunResult:
    """Of a run's best student on the dev split; scores are fractions, None where not known.

    teacher: the best teacher's name, empty without one. gain: over training alone, see `over_fine_tuning`.
    ratio: that teacher's time for one row over the student's, both from one timing. busy: that timing was taken beside
    other work, so it says nothing.
    """

    metric: str
    score: float | None = None
    teacher: str = ""
    teacher_score: float | None = None
    gain: float | None = None
    ratio: float | None = None
    busy: bool = False

    @property
    def share(self) -> float | None:
        """Of the teacher's score; None where that is not above 0."""
        if self.score is None or self.teacher_score is None or self.teacher_score <= 0:
            return None
        return self.score / self.teacher_score


def run_result(store: Store, runs: pd.DataFrame, run: str) -> RunResult:
    """The result of one of these runs.

    Args:
        runs: rows of `Store.runs`, among which training alone is looked for.
    """
    own = runs[runs["id"] == run].iloc[0]
    metric = own["metric"] if isinstance(own["metric"], str) else ""
    teachers = teacher_scores(store.evaluations([run]), metric).sort_values("value", kind="stable")
    teacher = str(teachers["teacher"].iloc[-1]) if len(teachers) else ""
    ratio, busy = latency_ratio(store.probes(run), teacher)
    gain = over_fine_tuning(runs[runs["protocol"] == own["protocol"]])
    return RunResult(
        metric,
        _number(own["score"]),
        teacher,
        _number(teachers["value"].iloc[-1]) if len(teachers) else None,
        _number(gain.get(own.name)),
        ratio,
        busy,
    )


def latency_ratio(probes: Mapping[str, Any], teacher: str) -> tuple[float | None, bool]:
    """The teacher's median time for a batch of one row over the student's, and whether the machine was busy.

    Both stand in the newest records of the probe "latency", which times its models in turn.
    """
    oldest_first = reversed(timings(probes, "latency"))
    single = {record.get("name"): record for record in oldest_first if record.get("batch") == 1}
    pair = [single.get("student"), single.get(teacher)]
    if not all(record and record["median_ms"] for record in pair):
        return None, False
    student, other = (record for record in pair if record)
    return other["median_ms"] / student["median_ms"], bool(student.get("busy") or other.get("busy"))


def ratio_text(ratio: float) -> str:
    """`1.6× faster`, `5.0× slower`, `as fast`.

    >>> ratio_text(1.6), ratio_text(0.2), ratio_text(1.01)
    ('1.6× faster', '5.0× slower', 'as fast')
    """
    if abs(ratio - 1) < 0.05:
        return "as fast"
    return f"{ratio:.1f}× faster" if ratio > 1 else f"{1 / ratio:.1f}× slower"


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
