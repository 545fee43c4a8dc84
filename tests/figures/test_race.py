"""Two runs on one clock: who leads at which moment, in hand-worked races."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from kdcore.analysis import race as clock
from kdcore.analysis.race import Racer, Track
from kdcore.figures import palette, race
from kdcore.methods import METHODS


def _track(*points: tuple[float, float, float]) -> Track:
    columns = np.array(points, dtype=np.float64).reshape(-1, 3).T
    return Track(*columns)


LOSSES = _track((0.0, 1, 2.0), (5.0, 50, 1.0))
SLOW = Racer("Slow", "kd", 10.0, _track((4.0, 10, 0.60), (10.0, 20, 0.90)), LOSSES)
QUICK = Racer("Quick", "fine-tune", 6.0, _track((2.0, 10, 0.70), (6.0, 30, 0.80)), LOSSES)


def test_between_two_points_the_last_one_holds() -> None:
    track = SLOW.scores
    assert [track.at(clock) for clock in (0.0, 3.9, 4.0, 9.9, 10.0, 99.0)] == [-1, -1, 0, 0, 1, 1]


def test_by_step_both_have_seen_as_much() -> None:
    """The same race: at step 10 Quick leads, at step 20 Slow has ended, at step 30 Quick has."""
    slow = replace(SLOW, end=20.0, scores=_track((10.0, 10, 0.60), (20.0, 20, 0.90)), unit="step")
    quick = replace(QUICK, end=30.0, scores=_track((10.0, 10, 0.70), (30.0, 30, 0.80)), unit="step")
    table = clock.moments(slow, quick)
    assert table["step"].tolist() == [0.0, 10.0, 20.0, 30.0]
    assert table["lead"].tolist() == pytest.approx([np.nan, -0.1, 0.2, 0.1], nan_ok=True)
    assert table["comment"].iloc[-1].endswith("Slow ended at step 20, Quick ended at step 30.")
    replay = clock.replay(table)
    assert (replay.end, replay.unit) == (30.0, "step")
    both = clock.moments(replace(slow, end=30.0), quick)["comment"].iloc[-1]
    assert both.endswith("Both ended at step 30.")
    drawn = race.figure(slow, quick, "Accuracy (%)")
    assert drawn.layout.xaxis.title.text == "Training step" and "step %{x:.0f}" in drawn.data[0].hovertemplate


def test_who_leads_at_every_moment() -> None:
    table = clock.moments(SLOW, QUICK)
    assert table["seconds"].tolist() == [0.0, 2.0, 4.0, 6.0, 10.0]
    assert table["lead"].tolist() == pytest.approx([np.nan, np.nan, -0.1, -0.2, 0.1], nan_ok=True)
    assert table["comment"].tolist() == [
        "No score yet.",
        "Quick 70.0 at step 10; Slow has no score yet.",
        "Quick leads by 10.0: Quick 70.0 at step 10, Slow 60.0 at step 10.",
        "Quick leads by 20.0: Quick 80.0 at step 30, Slow 60.0 at step 10. Quick ended after 6.0 s.",
        "Slow is ahead at the end by 10.0: Slow 90.0 at step 20, Quick 80.0 at step 30. The lead changed once. "
        "Quick ended after 6.0 s, Slow ended after 10.0 s.",
    ]


def test_a_level_score_is_no_lead_and_no_change() -> None:
    one = Racer("A", "kd", 3.0, _track((1.0, 1, 0.5), (2.0, 2, 0.6), (3.0, 3, 0.7)), LOSSES)
    other = Racer("B", "kd", 3.0, _track((1.0, 1, 0.5), (2.0, 2, 0.5), (3.0, 3, 0.5)), LOSSES)
    words = clock.moments(one, other)["comment"].tolist()
    assert words[1] == "Level: A 50.0 at step 1, B 50.0 at step 1."
    assert "changed" not in words[-1]


def test_a_run_without_a_score_still_runs() -> None:
    silent = Racer("Silent", "kd", 4.0, _track(), LOSSES)
    words = clock.moments(silent, QUICK)["comment"].tolist()
    assert words[0] == "No score yet." and words[-1].startswith("Quick 80.0 at step 30; Silent has no score. ")
    drawn = race.figure(silent, QUICK, "Accuracy (%)")
    assert list(drawn.data[0].x) == []


def test_lines_hold_to_the_runs_end_and_axes_stand_still() -> None:
    drawn = race.figure(SLOW, QUICK, "Accuracy (%)")
    assert [trace.meta for trace in drawn.data] == [race.LINE, race.HEAD] * 4
    quick = drawn.data[4]
    assert list(quick.x) == [2.0, 6.0, 6.0] and list(quick.y) == [70.0, 80.0, 80.0] and quick.line.shape == "hv"
    losses = drawn.data[2]
    assert list(losses.x) == [0.0, 5.0, 10.0] and losses.yaxis == "y2"
    assert drawn.layout.xaxis.range == (0, 10.2)
    assert drawn.layout.yaxis.range == pytest.approx((60 - 1.8, 90 + 1.8))
    assert not drawn.layout.yaxis2.type


def test_losses_far_apart_stand_on_a_logarithmic_axis() -> None:
    large = Racer("Large", "tinybert", 5.0, _track(), _track((0.0, 1, 100.0), (5.0, 2, 10.0)))
    axis = race.figure(large, QUICK, "Accuracy (%)").layout.yaxis2
    assert axis.type == "log" and axis.range == pytest.approx((0 - 0.12, 2 + 0.12))


def test_two_runs_of_one_method_can_be_told_apart() -> None:
    twin = Racer("Twin", "kd", 5.0, SLOW.scores, LOSSES)
    drawn = race.figure(SLOW, twin, "Accuracy (%)")
    looks = {(trace.line.color, trace.line.dash) for trace in drawn.data if trace.meta == race.LINE}
    assert len(looks) == 2 and len({color for color, _ in looks}) == 1
    assert len({trace.marker.symbol for trace in drawn.data if trace.meta == race.HEAD}) == 2


def test_two_lines_can_be_told_apart_in_grey() -> None:
    """Those of methods that share a dash; any others differ as they are."""
    pairs = itertools.combinations_with_replacement(METHODS, 2)
    for methods in (pair for pair in pairs if len({palette.style(method).dash for method in pair}) == 1):
        first, second = (Racer(f"{place}", method, 5.0, SLOW.scores, LOSSES) for place, method in enumerate(methods))
        drawn = race.figure(first, second, "Accuracy (%)")
        dashes = {(trace.name, trace.line.dash) for trace in drawn.data if trace.meta == race.LINE}
        assert len(dashes) == len({dash for _, dash in dashes}) == 2, methods


def test_the_browser_gets_the_words_of_every_moment() -> None:
    table = clock.moments(SLOW, QUICK)
    replay = clock.replay(table)
    assert replay.end == 10.0 and [seconds for seconds, _ in replay.comments] == [0.0, 2.0, 4.0, 6.0, 10.0]
    assert replay.comments[-1][1].startswith("Slow is ahead at the end")
