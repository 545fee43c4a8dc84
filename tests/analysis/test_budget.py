"""Which student keeps to a score and a cost, and how the page says it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdcore.analysis import budget, pareto
from kdcore.analysis.cost_axes import AXES
from pages.parts.speed import budget_answer

LATENCY = AXES["latency-1"]
TABLE = [
    ("student", "small", 1.0, 80.0), ("student", "mid", 2.0, 91.0), ("student", "mid", 2.0, 93.0),
    ("student", "wide", 3.0, 96.0), ("teacher", "teacher x", 8.0, 100.0),
]  # fmt: skip


def _points(rows: list[tuple[str, str, float, float]], busy: tuple[str, ...] = ()) -> pd.DataFrame:
    seen = pd.DataFrame(rows, columns=["kind", "label", "cost", "quality"])
    seen = seen.assign(key=seen["label"], method="kd", condition="", busy=seen["label"].isin(busy))
    return pareto.points(seen)


def _words(
    rows: Any = TABLE, share: float = 0.9, axis: str = "latency-1", busy: tuple[str, ...] = (), **more: Any
) -> str:
    points = rows if isinstance(rows, pd.DataFrame) else _points(rows, busy)
    choice = budget.choose(points, share, more.get("bound"), AXES[axis], more.get("ratio", lambda *_: None))
    return budget_answer.answer(choice, share, AXES[axis]).replace("\\", "")


def test_the_fastest_that_is_good_enough_is_named_with_its_seeds() -> None:
    words = _words(ratio=lambda *_: (4.0, False))
    assert "fastest student with at least 90% of teacher x (100.0) is **mid**: 92.0 ± 1.4 (2 seeds)" in words
    assert "2 ms a row, 4.0 times as fast as that teacher." in words
    assert "**small**: 80.0 (1 seed)" in _words(share=0.8)
    assert "Another seed may fall below" in _words(share=0.915) and "Another seed" not in words


def test_a_slower_student_is_called_slower() -> None:
    words = _words(ratio=lambda *_: (0.2, False))
    assert "5.0 times slower than that teacher" in words and "as fast" not in words
    assert "as fast as that teacher" in _words(ratio=lambda *_: (1.02, False))


@pytest.mark.parametrize("ratio", [None, (4.0, True)])
def test_without_a_quiet_session_in_common_there_is_no_ratio(ratio: Any) -> None:
    words = _words(ratio=lambda *_: ratio)
    assert "never timed in turn with that teacher on a quiet machine" in words and "times as" not in words


def test_a_cost_is_a_bound_beside_the_score() -> None:
    words = _words(bound=2.5)
    assert "with at least 90% of teacher x (100.0) within 2.5 ms a row is **mid**" in words and "The best" not in words
    assert "The best within that cost is **wide**: 96.0 (1 seed), 3 ms a row." in _words(bound=5.0)
    none = _words(bound=1.5)
    assert "No student with at least 90% of teacher x (100.0) within 1.5 ms a row is among these runs" in none
    assert "**mid**: 92.0 ± 1.4 (2 seeds), 2 ms a row, has the score and costs more" in none
    assert "**small** comes nearest with 80.0%, 1 ms a row" in none


def test_where_none_is_good_enough_the_nearest_is_named() -> None:
    words = _words(share=0.97, axis="disk")
    assert "No student with at least 97%" in words and "**wide** comes nearest with 96.0%, 3 MiB." in words
    rival = [("bf16", "teacher x, bf16", 4.0, 99.0), ("int8", "teacher x, int8", 9.0, 99.0)]
    words = _words(TABLE + rival, 0.97, "disk")
    assert "Without any distillation, **teacher x, bf16** does it for less: 99.0, 4 MiB." in words
    assert "No student was measured" in _words(TABLE[-1:], 0.9, "disk")


def test_times_of_a_busy_machine_decide_nothing() -> None:
    words = _words(busy=("mid",))
    assert words.startswith("**Cannot be said, time again.**") and "while mid was timed" in words
    assert "ms a row" not in words and "On that busy machine it was **mid**." in words
    assert _words(busy=("small",)).startswith("The fastest student"), "not good enough, so nothing rests on it"
    assert _words(busy=("mid",), axis="parameters").startswith("The smallest student"), "no clock is in it"


def test_a_teacher_is_a_rival() -> None:
    quick = [*TABLE, ("teacher", "teacher y", 1.5, 95.0)]
    assert "But **teacher y** itself is better and faster: 95.0, 1.5 ms a row." in _words(quick)
    assert "But" not in _words(quick, 0.96)
    assert "But **teacher x** itself is better and faster" in _words(
        [*TABLE[:-1], ("teacher", "teacher x", 1.0, 100.0)]
    )


def test_who_is_faster_is_told_by_the_session_they_share() -> None:
    slow = [*TABLE[:-1], ("teacher", "teacher x", 1.9, 100.0)]
    assert "itself" in _words(slow) and "itself" not in _words(slow, ratio=lambda *_: (1.1, False))
    assert "itself" in _words(ratio=lambda *_: (0.9, False)) and "itself" not in _words(ratio=lambda *_: (0.9, True))


def test_a_compressed_teacher_that_does_as_well_for_less_is_told() -> None:
    rival = [("int8", "teacher x, int8", 1.5, 91.5), ("cut", "teacher x, cut", 0.5, 40.0)]
    assert "Without any distillation, **teacher x, int8** does it for less: 91.5, 1.5 ms a row." in _words(
        TABLE + rival
    )
    assert "Without" not in _words(TABLE + rival, 0.8)
    assert "Without" not in _words(TABLE + rival, busy=("teacher x, int8",)), "taken under load it proves nothing"


def test_more_is_better_for_throughput_and_smaller_for_size() -> None:
    fast = [("student", "a", 500.0, 95.0), ("student", "b", 900.0, 94.0), ("teacher", "t", 100.0, 100.0)]
    words = _words(fast, axis="throughput", ratio=lambda *_: (1 / 9, False))
    assert "**b**" in words and "900 rows a second, 9.0 times as fast" in words
    assert "at no less than 950 rows a second is among these runs" in _words(fast, axis="throughput", bound=950.0)
    words = _words(axis="parameters")
    assert "smallest" in words and "25% of that teacher's" in words


def test_ties_in_cost_go_to_the_better_student() -> None:
    table = _points([("student", "a", 1.0, 92.0), ("student", "b", 1.0, 95.0), ("student", "c", np.nan, 99.0)])
    student = budget.choose(table, 0.9, None, LATENCY).student
    assert student is not None and student["label"] == "b"


def test_without_a_teacher_there_is_only_the_cost() -> None:
    words = _words(TABLE[:-1], bound=2.5)
    assert words.startswith("The fastest student within 2.5 ms a row is **small**") and "teacher" not in words


def test_hostile_names_are_no_markup() -> None:
    rows = [("student", "**b** [x](y)", 1.0, 95.0), ("teacher", ":red[t]", 2.0, 100.0)]
    choice = budget.choose(_points(rows), 0.9, None, LATENCY)
    words = budget_answer.answer(choice, 0.9, LATENCY)
    assert "[x](y)" not in words and ":red[t]" not in words


def test_memory_is_bounded_in_its_own_unit_and_other_work_decides_nothing() -> None:
    words = _words(bound=2.0, axis="memory-1", busy=("mid",))
    assert "The leanest student with at least 90% of teacher x (100.0) within 2 MiB is **mid**" in words
    assert "2 MiB, 25% of that teacher's." in words
    assert AXES["memory-1"].number(0.25) == "256 KiB" and AXES["disk"].number(417.6) == "418 MiB"


def test_energy_is_set_against_the_teachers_of_the_same_session() -> None:
    words = _words(axis="energy-1", ratio=lambda *_: (4.0, False))
    assert "The thriftiest student" in words and "2 mJ a row, 25% of that teacher's." in words
    assert "never timed in turn with that teacher" in _words(axis="energy-1")
    assert "**teacher x** itself is better and thriftier" in _words(axis="energy-1", ratio=lambda *_: (0.5, False))
    assert "Cannot be said, time again" in _words(axis="energy-1", busy=("mid",))
