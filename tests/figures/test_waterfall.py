"""The waterfall, a pair of layers, and what methods say beside their losses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kdcore.analysis import groups
from kdcore.analysis.series import Series, series
from kdcore.figures import attention, layer_pair, layers, method_logs, palette, waterfall
from kdcore.figures.template import summary


def _rungs(**changes: object) -> pd.DataFrame:
    nothing = [np.nan] * 3
    return pd.DataFrame(
        {
            "label": ["alone", "+ base", "+ <kd>"],
            "kind": ["start", "initialisation", "teacher"],
            "method": ["fine-tune", "fine-tune", "kd"],
            "mean": [0.70, np.nan, 0.74],
            "gain": [np.nan, np.nan, 0.04],
            "n": [3, 0, 3],
            "low": nothing,
            "high": nothing,
        }
    ).assign(**changes)


@pytest.mark.parametrize("dark", [False, True])
def test_bars_begin_at_zero_and_where_the_last_run_step_ended(dark: bool) -> None:
    figure = waterfall.waterfall(_rungs(), "Accuracy (%)", teacher=0.75, dark=dark)
    bars, words = figure.data
    said = [text.strip() for text in words.text]
    assert (bars.base[0], bars.x[0], said[0]) == (0, 0, "70.0"), "the first step is the zero, not a bar"
    assert bars.base[2] == pytest.approx(0) and bars.x[2] == pytest.approx(4)
    assert bars.x[1] == 0 and said[1:] == ["no run yet", "+4.0 → 74.0"]
    assert figure.layout.yaxis.ticktext[2] == "+ &lt;kd&gt;"
    assert figure.layout.xaxis.title.text == "Accuracy (%): points over alone"
    assert bars.marker.line.color[2] == palette.FAMILIES["soft_targets"][dark]
    low, high = figure.layout.xaxis.range
    assert low < 0 and high > 5, "zero and a teacher near by are in the picture"
    joints = [shape for shape in figure.layout.shapes if shape.y1 == 2]
    assert [joint.x0 for joint in joints] == [pytest.approx(0)]
    late = waterfall.waterfall(_rungs(mean=[np.nan, 0.7, 0.74], gain=[np.nan, np.nan, 0.04]), "x")
    assert late.data[1].text[1].strip() == "70.0", "the first that was run begins the stairs"


def test_a_loss_runs_backwards() -> None:
    rungs = _rungs(mean=[0.70, 0.72, 0.71], gain=[np.nan, 0.02, -0.01], n=3, kind=["start", "teacher", "method"],
                   method=["fine-tune", "kd", "pkd"])  # fmt: skip
    bars = waterfall.waterfall(rungs, "Accuracy (%)", teacher=0.99).data[0]
    assert bars.x[2] == pytest.approx(-1) and bars.base[2] == pytest.approx(2)
    assert bars.marker.line.color[2] == palette.style("pkd").color


def test_a_step_has_the_whisker_of_its_gain_and_says_when_it_is_noise() -> None:
    rungs = _rungs(mean=[0.70, 0.72, 0.80], gain=[np.nan, 0.02, 0.08], low=[np.nan, -0.03, 0.05],
                   high=[np.nan, 0.07, 0.11])  # fmt: skip
    figure = waterfall.waterfall(rungs, "Accuracy (%)")
    bars = figure.data[0]
    ends = bars.base + bars.x
    assert list(ends[1:] + bars.error_x.array[1:]) == pytest.approx([7, 13])
    assert list(ends[1:] - bars.error_x.arrayminus[1:]) == pytest.approx([-3, 7])
    words = figure.data[1]
    assert [text.strip() for text in words.text[1:]] == ["+2.0 → 72.0, within seed noise", "+8.0 → 80.0"]
    assert list(words.x[1:]) == pytest.approx([7, 13]), "no whisker runs through them"
    assert figure.layout.xaxis.range[0] < -3 and figure.layout.xaxis.range[1] > 13


def test_nothing_run_is_still_a_picture() -> None:
    nothing = _rungs(mean=np.nan, gain=np.nan, n=0)
    assert [text.strip() for text in waterfall.waterfall(nothing, "x").data[1].text] == ["no run yet"] * 3


def test_a_pair_is_ringed_and_ranked() -> None:
    values = np.array([[0.1, 0.2], [0.9, np.nan], [0.5, 0.4]])
    figure = layer_pair.ring(layers.matrix(values, "cka"), student=1, teacher=2)
    ring = figure.layout.shapes[-1]
    assert (ring.x0 + ring.x1, ring.y0 + ring.y1) == (4, 2)
    assert [layer_pair.place_of(values, "cka", 0, teacher) for teacher in range(3)] == [3, 1, 2]
    assert layer_pair.place_of(values, "cka", 1, 1) == 3, "a missing value is the last"
    assert layer_pair.place_of(values, "mse", 0, 0) == 1


def test_a_profile_shows_one_student_layer_and_the_chosen_pair() -> None:
    values = np.arange(6, dtype=float).reshape(3, 2) / 10
    figure = layer_pair.profile(values, "cka", student=1, teacher=2, matched=(0,))
    line, chosen = figure.data
    assert list(line.y) == [0.1, 0.3, 0.5] and (chosen.x[0], chosen.y[0]) == (2, 0.5)
    assert figure.layout.shapes[0].x0 == 0 and "matched" in figure.layout.annotations[0].text
    assert figure.layout.yaxis.range == (0, 1.04)
    assert layer_pair.profile(values, "mse", 0, 0).layout.yaxis.rangemode == "tozero"


def _notes() -> Series:
    rows = [
        (step, name, value)
        for step in (10, 20)
        for name, value in (("draws/a", 0.7), ("draws/b", 0.3), ("chance/a", 0.5), ("chance/b", 0.5), ("ptp/x", 0.1))
    ]
    frame = pd.DataFrame(rows, columns=["step", "name", "value"])
    return series(frame.assign(kind="note"))


def test_draws_stand_beside_their_chance() -> None:
    assert method_logs.families(name for _, name in _notes()) == {
        "draws": ["draws/a", "draws/b", "chance/a", "chance/b"],
        "ptp": ["ptp/x"],
    }
    figure = method_logs.draws(method_logs.draw_lines(_notes()))
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name["a, drawn"].y) == [70, 70] and by_name["a, chance"].line.dash == "dot"
    assert by_name["a, drawn"].line.color == by_name["a, chance"].line.color != by_name["b, drawn"].line.color
    assert by_name["a, chance"].showlegend is False


def test_other_read_outs_have_a_line_each() -> None:
    figure = method_logs.readings(method_logs.reading_lines(_notes(), "ptp"), "ptp")
    assert [trace.name for trace in figure.data] == ["x"] and figure.layout.yaxis.title.text == "Ptp"


def test_a_tile_knows_its_head() -> None:
    maps = np.random.default_rng(0).random((2, 3, 4, 4))
    tiled = attention.tiles(maps)
    for row, column in ((0, 0), (3, 8), (5, 5), (8, 13)):
        layer, head = attention.tile_at(row, column, 4, 4)
        inside = maps[layer - 1, head - 1]
        assert tiled[row, column] == inside[row % 5, column % 5]


def test_teachers_differ_by_name_and_then_by_their_settings() -> None:
    def config(*teachers: dict[str, object]) -> dict[str, object]:
        return {"method": "kd", "teachers": list(teachers), "student": {"layers": None}}

    big, small = {"name": "big", "layers": None}, {"name": "small", "layers": 3}
    table = groups.differences({"x": config(), "y": config(big, small), "z": config(big | {"layers": 6}, small)})
    assert table.to_dict("index") == {
        "teachers": {"x": "", "y": "big, small", "z": "big, small"},
        "teachers (big).layers": {"x": "", "y": "", "z": "6"},
    }


def test_the_summary_names_rows_where_nothing_else_is_named() -> None:
    assert (
        summary(waterfall.waterfall(_rungs(), "Accuracy (%)"))
        == "Figure: Accuracy (%): points over alone; alone, + base, + <kd>"
    )
