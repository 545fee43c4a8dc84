"""Bars and curve of one row's soft targets."""

from __future__ import annotations

import pytest

from kdcore.figures import palette, temperature
from kdcore.probes.temperature import soften

TEACHER, STUDENT = [3.0, -1.0], [1.0, 0.0]


def test_bars_show_both_models_now_and_at_one() -> None:
    now, plainly = soften(TEACHER, STUDENT, 4.0), soften(TEACHER, STUDENT, 1.0)
    figure = temperature.bars(now, plainly, ["<no>", "yes"], "#0228FD")
    teacher, at_one, student, _ = figure.data
    assert list(teacher.x) == ["&lt;no&gt;", "yes"]
    assert list(teacher.y) == pytest.approx(list(now.teacher)) and list(at_one.y) == pytest.approx(
        list(plainly.teacher)
    )
    assert teacher.marker.color == palette.teacher(False).color and student.marker.color == "#0228FD"
    assert figure.layout.yaxis.range == (0, 1.08)


def test_the_curve_passes_through_the_chosen_temperature() -> None:
    figure = temperature.pull(TEACHER, STUDENT, 5.0, "#0228FD", dark=True)
    line, here = figure.data
    assert here.x == (5.0,) and here.y[0] == pytest.approx(soften(TEACHER, STUDENT, 5.0).loss)
    assert min(line.x) == pytest.approx(temperature.COLDEST) and max(line.x) == pytest.approx(temperature.HOTTEST)
    assert figure.layout.xaxis.type == "log" and figure.layout.yaxis.title.text == "T² · KL(T) (nats)"
