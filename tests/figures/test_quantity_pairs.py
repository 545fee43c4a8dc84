"""One quantity over another."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.analysis.series import Track
from kdcore.figures import palette
from kdcore.figures.quantity_pairs import MOST_POINTS, quantity_pairs
from kdcore.figures.smoothing import smooth


def _track(seed: int, x: list[float], y: list[float], method: str = "kd") -> Track:
    steps = np.arange(1.0, len(x) + 1)
    return Track(f"run {seed}", method, method, method.upper(), seed, steps, np.array(x), np.array(y))


def test_a_track_goes_by_its_steps_and_ends_in_a_large_mark() -> None:
    figure = quantity_pairs([_track(0, [3.0, 1.0, 2.0], [50.0, 60.0, 70.0])], "Loss", "Accuracy (%)")
    (line,) = figure.data
    assert list(line.x) == [3.0, 1.0, 2.0] and list(line.y) == [50.0, 60.0, 70.0]
    assert line.marker.size[-1] > line.marker.size[0] and list(line.customdata) == [1, 2, 3]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Loss", "Accuracy (%)")
    assert line.line.color == palette.style("kd").color and line.name == "KD (seed 0)"


def test_seeds_share_a_place_in_the_legend_and_have_no_mean() -> None:
    figure = quantity_pairs([_track(seed, [1.0, 2.0], [1.0, 2.0]) for seed in range(3)], "a", "b")
    assert [line.showlegend for line in figure.data] == [True, False, False]
    assert {line.name for line in figure.data} == {"KD (N=3, each seed)"}


def test_each_axis_has_its_scale() -> None:
    (line,) = quantity_pairs([_track(0, [3.0], [0.5])], "a", "b", scales=(1.0, 100.0)).data
    assert (line.x[0], line.y[0]) == (3.0, 50.0)


def test_smoothing_is_of_both_and_said() -> None:
    x, y = [0.0, 8.0, 2.0], [1.0, 5.0, 0.0]
    figure = quantity_pairs([_track(0, x, y)], "a", "b", smoothing=0.5)
    assert list(figure.data[0].x) == pytest.approx(smooth(x, 0.5))
    assert list(figure.data[0].y) == pytest.approx(smooth(y, 0.5))
    assert "smoothing 0.5" in figure.layout.xaxis.title.text and "smoothing 0.5" in figure.layout.yaxis.title.text


def test_what_a_logarithm_cannot_show_becomes_a_gap() -> None:
    figure = quantity_pairs([_track(0, [0.0, 1.0], [1.0, -1.0])], "a", "b", log=True, log_x=True)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert np.isnan(figure.data[0].x[0]) and np.isnan(figure.data[0].y[1])


def test_a_long_track_is_thinned_and_keeps_its_ends() -> None:
    values = [float(value) for value in range(5000)]
    (line,) = quantity_pairs([_track(0, values, values)], "a", "b").data
    assert len(line.x) == MOST_POINTS and (line.x[0], line.x[-1]) == (0.0, 4999.0)


def test_names_are_shown_letter_by_letter() -> None:
    hostile = Track("<b>r</b>", "g", "kd", "<a>k</a>", 0, np.ones(2), np.ones(2), np.ones(2))
    (line,) = quantity_pairs([hostile], "a", "b").data
    assert "<a>" not in line.name and "<b>r" not in line.hovertemplate
