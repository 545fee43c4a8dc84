"""Curves of one run and of many."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdcore.analysis.series import Curve
from kdcore.figures import curves, palette, scores
from kdcore.figures.template import plain, summary
from kdcore.methods import METHODS


def _metrics() -> pd.DataFrame:
    rows = []
    for step in (1, 2, 3):
        for kind, name, value in (
            ("raw", "hard", 1.0 / step),
            ("raw", "soft", 2.0 / step),
            ("weighted", "hard", 0.5 / step),
            ("weighted", "soft", 1.0 / step),
            ("loss", "loss", 1.5 / step),
        ):
            rows.append(("r", "distil", step, step / 3, step * 10.0, kind, name, value))
    return pd.DataFrame(rows, columns=["run", "stage", "step", "epoch", "seconds", "kind", "name", "value"])


def _curve(seed: int, y: list[float], method: str = "kd", group: str = "g", x: list[float] | None = None) -> Curve:
    xs = np.arange(1.0, len(y) + 1) if x is None else np.array(x)
    return Curve(f"run {seed}", group, method, method, seed, xs, np.array(y))


def test_terms_have_units_their_own_colours_and_the_sum() -> None:
    figure = curves.terms(_metrics(), "weighted")
    assert [trace.name for trace in figure.data] == ["hard", "soft", "sum"]
    assert figure.layout.xaxis.title.text == "Training step"
    assert figure.data[0].line.color == palette.FAMILIES["none"][0]
    assert list(figure.data[2].y) == pytest.approx([1.5, 0.75, 0.5])
    assert curves.terms(_metrics(), "raw", x="seconds").layout.xaxis.title.text == "Time since start (s)"


def test_missing_values_break_the_line() -> None:
    metrics = _metrics()
    metrics.loc[(metrics["kind"] == "raw") & (metrics["step"] == 2), "value"] = np.nan
    line = curves.terms(metrics, "raw").data[0]
    assert np.isnan(line.y[1]) and line.connectgaps is False


def test_what_a_logarithm_cannot_show_becomes_a_gap() -> None:
    metrics = _metrics()
    metrics.loc[(metrics["kind"] == "raw") & (metrics["step"] == 1), "value"] = 0.0
    figure = curves.terms(metrics, "raw", log=True)
    assert figure.layout.yaxis.type == "log" and np.isnan(figure.data[0].y[0])


def test_scores_are_shown_times_a_hundred_beside_the_teachers_line() -> None:
    evaluations = pd.DataFrame(
        [
            ("r", "s", 10, "validation", "last", "accuracy", 0.5, 100),
            ("r", "s", 20, "validation", "last", "accuracy", 0.75, 100),
        ],
        columns=["run", "stage", "step", "split", "which", "metric", "value", "rows"],
    )
    figure = curves.scores(evaluations, "accuracy", "Accuracy (%)", {"large": 0.9}, guess=0.5)
    assert list(figure.data[0].y) == [50.0, 75.0] and figure.data[0].name == "dev"
    words = [annotation.text for annotation in figure.layout.annotations]
    assert words == ["teacher large: 90.0", "blind guess: 50.0"]


def test_three_seeds_become_a_mean_and_a_band_two_stay_single() -> None:
    three = [_curve(seed, [1.0 + seed, 2.0 + seed]) for seed in range(3)]
    figure = curves.compare(three, "step", "Loss", band="std")
    assert [trace.meta for trace in figure.data] == ["band", None]
    assert list(figure.data[1].y) == [2.0, 3.0]
    assert "N=3" in figure.data[1].name and figure.data[0].showlegend is False
    assert figure.data[0].y == pytest.approx([3.0, 4.0, 2.0, 1.0])
    two = curves.compare(three[:2], "step", "Loss", band="std")
    assert len(two.data) == 2 and all(trace.meta is None for trace in two.data)
    assert len(curves.compare(three, "step", "Loss", band=None).data) == 3


def test_one_band_a_group_in_its_methods_colour() -> None:
    lines = [_curve(seed, [1.0, 2.0], "kd", "a") for seed in range(3)]
    lines += [_curve(seed, [2.0, 3.0], "pkd", "b") for seed in range(3)]
    figure = curves.compare(lines, "step", "Loss")
    assert sum(trace.meta == "band" for trace in figure.data) == 2
    assert figure.data[1].line.color == palette.style("kd").color
    assert figure.data[3].line.color == palette.style("pkd").color
    assert figure.data[3].line.dash == palette.style("pkd").dash


def test_every_method_is_known_by_dash_and_marker_in_grey() -> None:
    lines = [_curve(seed, [1.0, 2.0, 3.0], method, method) for method in METHODS for seed in range(3)]
    figure = curves.compare(lines, "step", "Loss")
    shown = [trace for trace in figure.data if trace.meta != "band"]
    assert len({(trace.line.dash, trace.marker.symbol) for trace in shown}) == len(METHODS)
    assert {(trace.mode, trace.marker.maxdisplayed) for trace in shown} == {("lines+markers", curves.MARKS)}
    alone = curves.compare(lines[:1], "step", "Score", markers=True).data[0]
    assert alone.mode == "lines+markers" and alone.marker.maxdisplayed == 0, "each evaluation has its own"


def test_bands_by_hand() -> None:
    members = [_curve(seed, [value]) for seed, value in enumerate([1.0, 2.0, 6.0])]
    _, mean, low, high = curves.mean_and_spread(members, 0.0, "std")
    deviation = np.std([1.0, 2.0, 6.0], ddof=1)
    assert mean[0] == 3.0 and high[0] == pytest.approx(3 + deviation) and low[0] == pytest.approx(3 - deviation)
    _, _, low, high = curves.mean_and_spread(members, 0.0, "sem")
    assert high[0] == pytest.approx(3 + deviation / np.sqrt(3))
    _, _, low, high = curves.mean_and_spread(members, 0.0, "range")
    assert (low[0], high[0]) == (1.0, 6.0)


def test_the_interval_is_students() -> None:
    values = [1.0, 2.0, 6.0]
    members = [_curve(seed, [value]) for seed, value in enumerate(values)]
    _, mean, low, high = curves.mean_and_spread(members, 0.0, "ci")
    # Student's t, two-sided 95%: 4.302653 for two degrees of freedom, 12.706205 for one
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    assert mean[0] == 3.0 and (low[0], high[0]) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    wanted = stats.t.interval(0.95, 2, loc=3.0, scale=stats.sem(values))
    assert (low[0], high[0]) == pytest.approx(wanted)
    _, _, low, high = curves.mean_and_spread(members[:2], 0.0, "ci")
    assert (high[0] - low[0]) / 2 == pytest.approx(12.706205 * 0.5, rel=1e-6)


def test_the_interval_follows_how_many_seeds_there_are_at_each_point() -> None:
    members = [_curve(0, [1.0, 1.0]), _curve(1, [2.0, 2.0]), _curve(2, [6.0])]
    _, _, low, high = curves.mean_and_spread(members, 0.0, "ci")
    assert (high - low) / 2 == pytest.approx([4.302653 * np.sqrt(7 / 3), 12.706205 * 0.5], rel=1e-6)


def test_an_interval_takes_two_seeds_and_says_its_level() -> None:
    two = [_curve(seed, [1.0 + seed, 2.0 + seed]) for seed in range(2)]
    figure = curves.compare(two, "step", "Loss", band="ci")
    assert [trace.meta for trace in figure.data] == ["band", None] and "N=2, 95% interval (t)" in figure.data[1].name
    assert [trace.meta for trace in curves.compare(two[:1], "step", "Loss", band="ci").data] == [None]


def test_a_shorter_run_is_not_stretched_and_alone_it_has_no_band() -> None:
    long, short = _curve(0, [1.0, 1.0, 1.0, 1.0]), _curve(1, [3.0, 3.0])
    x, mean, low, _ = curves.mean_and_spread([long, short], 0.0, "std")
    assert x.tolist() == [1, 2, 3, 4]
    assert mean.tolist() == [2, 2, 1, 1] and np.isnan(low[2:]).all()


def test_interpolation_never_crosses_a_missing_value() -> None:
    gap = _curve(0, [1.0, np.nan, 3.0], x=[1.0, 2.0, 3.0])
    other = _curve(1, [1.0, 1.0, 1.0, 1.0, 1.0], x=[1.0, 1.5, 2.0, 2.5, 3.0])
    _, mean, _, _ = curves.mean_and_spread([gap, other], 0.0, "std")
    assert mean.tolist() == [1.0, 1.0, 1.0, 1.0, 2.0]


def test_smoothing_keeps_the_raw_line_faint_behind_and_is_named() -> None:
    figure = curves.compare([_curve(0, [0.0, 10.0, 0.0])], "step", "Loss", smoothing=0.5)
    raw, smoothed = figure.data
    assert raw.line.color.startswith("rgba") and raw.showlegend is False and list(raw.y) == [0, 10, 0]
    assert max(smoothed.y) < 10
    assert "0.5" in figure.layout.yaxis.title.text


def test_names_are_shown_letter_by_letter() -> None:
    assert plain("<b>x</b> & y") == "&lt;b&gt;x&lt;/b&gt; &amp; y"
    hostile = Curve(
        "<b>r</b>", "g", "kd", "<a href='javascript:1'>k</a>", 0, np.array([1.0, 2.0]), np.array([1.0, 2.0])
    )
    line = curves.compare([hostile], "step", "Loss").data[0]
    assert "<a" not in line.name and "<b>r" not in line.hovertemplate


def test_the_summary_says_what_a_screen_reader_needs() -> None:
    assert summary(curves.terms(_metrics(), "raw")) == "Figure: Raw loss term over Training step; hard, soft"


def test_final_scores_have_a_dot_a_seed_mean_and_std() -> None:
    rows = pd.DataFrame(
        {"id": ["r0", "r1", "r2", "r3"], "group": ["a"] * 3 + ["b"], "label": ["KD"] * 3 + ["PKD"],
         "method": ["kd"] * 3 + ["pkd"], "seed": [0, 1, 2, 0], "score": [0.7, 0.8, 0.9, np.nan]}
    )  # fmt: skip
    figure = scores.dots(rows, "Accuracy (%)", teacher=0.95)
    mean = next(trace for trace in figure.data if trace.name == "mean ± std")
    assert mean.x[0] == pytest.approx(80.0) and mean.error_x.array[0] == pytest.approx(10.0)
    assert list(figure.layout.yaxis.ticktext) == ["PKD (N=1)", "KD (N=3)"]
    assert figure.layout.annotations[0].text == "best teacher 95.0"
    assert [list(trace.customdata) for trace in figure.data if trace.customdata is not None] == [
        ["r3"],
        ["r0", "r1", "r2"],
    ]


def test_a_far_teacher_is_named_at_the_edge_and_presses_nothing() -> None:
    rows = pd.DataFrame(
        {"id": ["a", "b"], "group": "a", "label": "KD", "method": "kd", "seed": [0, 1], "score": [0.50, 0.52]}
    )
    figure = scores.dots(rows, "Accuracy (%)", teacher=0.95, guess=0.51)
    assert [shape.x0 for shape in figure.layout.shapes] == [51.0]
    assert "best teacher 95.0 →" in [annotation.text for annotation in figure.layout.annotations]


def test_differences_have_a_line_at_zero() -> None:
    rows = pd.DataFrame({"id": ["a"], "group": "a", "label": "KD", "method": "kd", "seed": [0], "score": [0.02]})
    figure = scores.dots(rows, "Δ", baseline="alone <b>")
    assert figure.layout.shapes[0].x0 == 0 and figure.layout.annotations[0].text == "alone &lt;b&gt;"


def test_lines_close_together_keep_their_words_apart() -> None:
    evaluations = pd.DataFrame(
        {"metric": "accuracy", "which": "last", "split": "select", "step": [1, 2], "value": [0.5, 0.6]}
    )
    figure = curves.scores(evaluations, "accuracy", "Accuracy (%)", {"a": 0.82, "b": 0.81, "c": 0.95})
    places = {words.text: (words.xanchor, words.yanchor) for words in figure.layout.annotations}
    assert places["teacher c: 95.0"] == places["teacher a: 82.0"] == ("left", "bottom")
    assert places["teacher b: 81.0"] == ("left", "top")


def test_a_logarithmic_horizontal_axis_leaves_out_what_it_cannot_show() -> None:
    figure = curves.compare([_curve(0, [3.0, 2.0, 1.0], x=[0.0, 1.0, 10.0])], "step", "Loss", log_x=True)
    assert figure.layout.xaxis.type == "log" and not figure.layout.yaxis.type
    assert list(figure.data[0].x) == [1.0, 10.0] and list(figure.data[0].y) == [2.0, 1.0]
    band = curves.compare([_curve(seed, [3.0, 2.0], x=[0.0, 1.0]) for seed in range(3)], "step", "Loss", log_x=True)
    assert all(min(trace.x) > 0 for trace in band.data)
