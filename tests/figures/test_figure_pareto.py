"""The front of quality against cost."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from kdcore.figures import palette, pareto


def _reference(cost: list[float], quality: list[float]) -> list[bool]:
    """The definition, pair by pair."""
    out = []
    for c, q in zip(cost, quality, strict=True):
        beaten = any((oc <= c and oq >= q) and (oc < c or oq > q) for oc, oq in zip(cost, quality, strict=True))
        out.append(not beaten and np.isfinite(c) and np.isfinite(q))
    return out


def test_front_equals_its_definition_on_every_small_grid() -> None:
    values = [1.0, 2.0, 3.0]
    for cost in itertools.product(values, repeat=4):
        for quality in itertools.product([5.0, 6.0, 7.0], repeat=4):
            assert pareto.front(cost, quality).tolist() == _reference(list(cost), list(quality))


def test_ties_stay_and_missing_values_do_not_count() -> None:
    assert pareto.front([1, 1, 2, np.nan], [5, 5, 5, 99]).tolist() == [True, True, False, False]
    assert pareto.front([], []).tolist() == []


def _points(**changes: object) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "key": ["f", "k", "p", ""],
            "label": ["fine-tune", "kd", "slow and bad", "teacher large"],
            "method": ["fine-tune", "kd", "pkd", "teacher"],
            "cost": [1.0, 2.0, 3.0, 40.0],
            "quality": [70.0, 80.0, 60.0, 90.0],
            "cost_spread": 0.0,
            "quality_spread": 0.5,
            "n": [3, 3, 3, 1],
            "hardware": "CPU",
        }
    )
    return rows.assign(**changes)


def test_scatter_draws_steps_faint_losers_and_the_teacher_as_a_star() -> None:
    figure = pareto.scatter(_points(), "Latency (ms)", "Accuracy (%)")
    steps = next(trace for trace in figure.data if trace.line.shape == "hv")
    assert list(steps.x) == [1.0, 2.0, 40.0] and list(steps.y) == [70.0, 80.0, 90.0]
    by_name = {trace.name: trace for trace in figure.data}
    assert by_name["Patient KD"].opacity == pytest.approx(0.35)
    assert by_name["KD"].opacity == 1.0 and by_name["KD"].marker.color == palette.style("kd").color
    assert by_name["Teacher"].marker.symbol == "star"
    assert figure.layout.xaxis.type == "log", "costs 40 times apart need a logarithmic axis"
    words = [annotation.text for annotation in figure.layout.annotations]
    assert any("97%" in text for text in words) and any("99%" in text for text in words)


def test_two_machines_never_share_a_plot() -> None:
    with pytest.raises(ValueError, match="different hardware"):
        pareto.scatter(_points(hardware=["A", "A", "B", "A"]), "x", "y")


def test_points_without_a_score_are_left_out_not_drawn_at_zero() -> None:
    figure = pareto.scatter(_points(quality=[70.0, np.nan, np.nan, np.nan]), "x", "y")
    drawn = [x for trace in figure.data if trace.mode != "lines" for x in trace.x]
    assert drawn == [1.0]


def test_a_point_gives_its_key_back() -> None:
    figure = pareto.scatter(_points(), "x", "y")
    kd = next(trace for trace in figure.data if trace.name == "KD")
    assert kd.customdata[0].tolist() == [3, "k"]


def test_labels_of_near_points_stand_on_different_sides() -> None:
    near = _points(cost=[1.0, 1.1, 3.0, 4.0], quality=[70.0, 71.0, 60.0, 90.0])
    figure = pareto.scatter(near, "x", "y")
    sides = {trace.name: trace.textposition[0] for trace in figure.data if trace.textposition}
    assert sides["KD"] == "top right" and sides["Fine-tuning alone"] == "bottom right"
    assert sides["Teacher"] == "top left"
