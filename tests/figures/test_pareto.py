"""The front of quality against cost, its band, and the picture of both."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from kdcore.analysis import pareto as fronts
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
            wanted = _reference(list(cost), list(quality))
            assert fronts.front(cost, quality).tolist() == wanted
            assert fronts.front([-c for c in cost], quality, "more").tolist() == wanted


def test_ties_stay_and_missing_values_do_not_count() -> None:
    assert fronts.front([1, 1, 2, np.nan], [5, 5, 5, 99]).tolist() == [True, True, False, False]
    assert fronts.front([], []).tolist() == []


def _seen(rows: list[tuple[str, float, float]], **changes: object) -> pd.DataFrame:
    """label, cost, quality of each run."""
    table = pd.DataFrame(rows, columns=["label", "cost", "quality"])
    about = {"key": table["label"], "method": "kd", "kind": "student", "condition": "CPU", "busy": False}
    return table.assign(**about).assign(**changes)


def test_a_point_is_the_mean_of_its_seeds() -> None:
    table = fronts.points(_seen([("a", 1, 80), ("a", 3, 84), ("a", np.nan, 99), ("b", 4, 82), ("c", 5, np.nan)]))
    a, b, c = (row for _, row in table.iterrows())
    assert (a["cost"], a["quality"], a["n"]) == (2, 82, 2)
    assert a["quality_spread"] == pytest.approx(8**0.5) and a["cost_spread"] == pytest.approx(2**0.5)
    assert (b["quality_spread"], b["n"]) == (0, 1)
    assert np.isnan(c["cost"]) and c["n"] == 0 and not c["on_front"] and c["share"] == 0


def test_the_share_says_how_surely_a_point_is_on_the_front() -> None:
    sure, shaky = [("sure", 1.0, 90.0)], [("shaky", 2.0, 80.0), ("shaky", 2.0, 100.0)]
    table = fronts.points(_seen(sure + shaky)).set_index("label")
    # the mean of two draws of 80 or 100 is above 90 once in four, and 90, no better than what is cheaper, twice
    assert table.loc["sure", "share"] == 1
    assert table.loc["shaky", "share"] == pytest.approx(0.25, abs=0.07)
    again = fronts.points(_seen(sure + shaky)).set_index("label")
    assert again["share"].equals(table["share"])


def test_the_band_holds_what_is_to_be_had_for_a_cost() -> None:
    cheap = [("cheap", 1.0, value) for value in (70.0, 72.0, 74.0)]
    dear = [("dear", 8.0, 90.0)]
    edges = fronts.band(_seen(cheap + dear))
    assert edges["cost"].iloc[0] == 1 and edges["cost"].iloc[-1] == 8
    before, at = edges[edges["cost"] < 8], edges[edges["cost"] == 8].iloc[0]
    assert 70 <= before["low"].iloc[0] < 72 < before["high"].iloc[0] <= 74
    assert before["low"].nunique() == 1 and (at["low"], at["high"]) == (90, 90)


def test_the_band_of_a_good_cost_runs_the_other_way() -> None:
    fast = [("fast", 100.0, value) for value in (70.0, 72.0, 74.0)]
    edges = fronts.band(_seen([*fast, ("slow", 10.0, 90.0)]), "more")
    assert edges[edges["cost"] == 10]["low"].tolist() == [90]
    assert edges[edges["cost"] > 10]["high"].max() <= 74


def test_too_few_seeds_give_no_band() -> None:
    assert fronts.band(_seen([("a", 1, 80), ("a", 1, 81), ("b", 2, 90)])).empty
    assert fronts.band(_seen([("a", np.nan, 80)])).empty


ROWS = [("fine-tune", 1.0, 70.0), ("kd", 2.0, 80.0), ("slow and bad", 3.0, 60.0), ("teacher large", 40.0, 90.0)]


def _points(
    rows: list[tuple[str, float, float]] = ROWS, better: pareto.Better = "less", **changes: object
) -> pd.DataFrame:
    about = {
        "method": ["fine-tune", "kd", "pkd", "teacher"], "kind": ["student"] * 3 + ["teacher"],
        "key": ["f", "k", "p", ""],
    }  # fmt: skip
    return fronts.points(_seen(rows, **about | changes), better)


def _drawn(figure: object) -> dict[str, object]:
    return {trace.name: trace for trace in figure.data if "markers" in trace.mode}  # type: ignore[attr-defined]


def test_scatter_draws_steps_faint_losers_and_the_teacher_as_a_star() -> None:
    figure = pareto.scatter(_points(), "Latency (ms)", "Accuracy (%)")
    steps = next(trace for trace in figure.data if trace.line.shape == "hv")
    assert list(steps.x) == [1.0, 2.0, 40.0] and list(steps.y) == [70.0, 80.0, 90.0]
    by_name = _drawn(figure)
    assert by_name["Patient KD"].marker.opacity == pytest.approx(0.35)
    assert by_name["KD"].marker.opacity == 1.0 and by_name["KD"].marker.color == palette.style("kd").color
    assert by_name["Teacher"].marker.symbol == ("star",)
    assert figure.layout.xaxis.type == "log", "costs 40 times apart need a logarithmic axis"
    words = [annotation.text for annotation in figure.layout.annotations]
    assert any("97%" in text for text in words) and any("99%" in text for text in words)


def test_the_front_goes_on_to_the_dearest_point() -> None:
    figure = pareto.scatter(_points([*ROWS[:3], ("teacher large", 40.0, 75.0)]), "x", "y")
    steps = next(trace for trace in figure.data if trace.line.shape == "hv")
    assert list(steps.x) == [1.0, 2.0, 40.0] and list(steps.y) == [70.0, 80.0, 80.0]
    more = pareto.scatter(_points(better="more"), "x", "y", better="more")
    steps = next(trace for trace in more.data if trace.line.shape == "vh")
    assert list(steps.x) == [1.0, 40.0] and list(steps.y) == [90.0, 90.0]


def test_what_is_below_the_bound_is_grey_and_the_line_stands_at_it() -> None:
    figure = pareto.scatter(_points(), "x", "y", least=81.0)
    assert _drawn(figure)["KD"].marker.color != palette.style("kd").color
    assert _drawn(figure)["KD"].marker.opacity < 1
    (line,) = figure.layout.shapes
    assert line.y0 == pytest.approx(81) and "90% of the best teacher" in figure.layout.annotations[0].text


def test_the_words_of_the_bound_stand_where_no_point_is() -> None:
    points = [("a", 1.0, 70.0), ("b", 1.2, 71.5), ("far", 9.0, 99.0)]
    figure = pareto.scatter(_points([*points, ("teacher", 9.0, 100.0)]), "x", "y", least=71.0)
    (words,) = [note for note in figure.layout.annotations if "best teacher" in note.text]
    assert words.xanchor == "right", "both points near the line are at its left"


def test_a_blind_guess_is_a_labelled_line_of_its_own() -> None:
    known = {line.y0 for line in pareto.scatter(_points(), "x", "y").layout.shapes}
    figure = pareto.scatter(_points(), "x", "y", guess=50.0)
    assert {line.y0 for line in figure.layout.shapes} - known == {50.0}
    assert "blind guess" in [note.text for note in figure.layout.annotations]


def test_what_costs_more_than_the_bound_is_grey_too() -> None:
    figure = pareto.scatter(_points(), "x", "y", least=50.0, bound=1.5)
    assert _drawn(figure)["KD"].marker.color != palette.style("kd").color
    assert _drawn(figure)["Fine-tuning alone"].marker.color == palette.style("fine-tune").color
    assert [line.x0 for line in figure.layout.shapes if line.x0 == line.x1] == [1.5]
    fast = pareto.scatter(_points(better="more"), "x", "y", better="more", bound=1.5)
    assert _drawn(fast)["KD"].marker.color == palette.style("kd").color


def test_the_answer_is_the_most_visible_mark_also_where_it_is_beaten() -> None:
    by_name = _drawn(pareto.scatter(_points(busy=True), "x", "y", chosen="slow and bad"))
    ring, mark = by_name["the answer"], by_name["Patient KD"]
    assert (ring.x, ring.y) == ((3.0,), (60.0,)) and mark.marker.opacity == 1.0
    assert mark.marker.symbol == (palette.style("pkd").marker,), "filled, though timed on a busy machine"
    assert mark.marker.size > max(by_name[name].marker.size for name in ("KD", "Teacher"))
    assert mark.text == ("<b>slow and bad</b>",)
    assert "the answer" not in _drawn(pareto.scatter(_points(), "x", "y", chosen="teacher large"))


def test_every_student_has_its_label_beside_it_or_at_the_end_of_a_line() -> None:
    crowd = [(f"a rather long name {number}", 1.0 + 0.001 * number, 70.0 + 0.01 * number) for number in range(9)]
    crowd.append(("far away", 9.0, 99.0))
    figure = pareto.scatter(fronts.points(_seen(crowd)), "x", "y")
    beside = {text for trace in figure.data for text in trace.text or () if text}
    led = {note.text for note in figure.layout.annotations if note.showarrow}
    assert beside | led == {label for label, _, _ in crowd} and led


def test_a_rival_is_a_star_of_its_own_in_the_teachers_colour() -> None:
    kinds = ["int8", "cut", "bf16", "teacher"]
    figure = pareto.scatter(_points(kind=kinds, method="teacher"), "x", "y")
    by_name = _drawn(figure)
    assert set(by_name) == {"Teacher", *(words for _, words in pareto.RIVALS.values())}
    assert {trace.marker.color for trace in by_name.values()} == {palette.teacher(False).color}
    assert len({trace.marker.symbol for trace in by_name.values()}) == 4


def test_a_point_of_a_busy_machine_is_hollow_and_says_so() -> None:
    figure = pareto.scatter(_points(busy=[False, True, False, False]), "x", "y")
    kd = _drawn(figure)["KD"]
    assert kd.marker.symbol == (f"{palette.style('kd').marker}-open",) and "busy" in kd.customdata[0][3]
    assert "busy" not in _drawn(figure)["Teacher"].customdata[0][3]


def test_two_conditions_never_share_a_plot() -> None:
    with pytest.raises(ValueError, match="different conditions"):
        pareto.scatter(_points(condition=["A", "A", "B", "A"]), "x", "y")


def test_points_without_a_score_are_left_out_not_drawn_at_zero() -> None:
    rows = [(label, cost, quality if label == "fine-tune" else np.nan) for label, cost, quality in ROWS]
    assert [x for trace in _drawn(pareto.scatter(_points(rows), "x", "y")).values() for x in trace.x] == [1.0]
    nothing = [(label, np.nan, np.nan) for label, _, _ in ROWS]
    assert not _drawn(pareto.scatter(_points(nothing), "x", "y"))


def test_a_point_gives_its_key_back_and_one_seed_has_no_whisker() -> None:
    kd = _drawn(pareto.scatter(_points(), "x", "y"))["KD"]
    assert list(kd.customdata[0][:2]) == [1, "k"]
    assert np.isnan(kd.error_y.array).all()


def test_labels_cover_neither_points_nor_one_another() -> None:
    near = [("fine-tune", 1.0, 70.0), ("kd", 1.05, 70.5), ("slow and bad", 3.0, 60.0), ("teacher large", 4.0, 90.0)]
    by_name = _drawn(pareto.scatter(_points(near), "x", "y"))
    sides = {name: (trace.text[0], trace.textposition[0]) for name, trace in by_name.items()}
    assert sides["KD"] == ("kd", "top right") and sides["Teacher"] == ("teacher large", "top left")
    assert sides["Fine-tuning alone"][0] == "" or sides["Fine-tuning alone"][1] != "top right"


def test_a_size_that_all_students_share_is_not_repeated_at_each_point() -> None:
    rows = [
        ("KD, 2 x 64", 1.0, 70.0),
        ("PKD, 2 x 64", 2.0, 80.0),
        ("TAKD, 2 x 64", 3.0, 85.0),
        ("teacher x", 4.0, 90.0),
    ]
    drawn = [text for trace in _drawn(pareto.scatter(_points(rows), "x", "y")).values() for text in trace.text]
    assert set(drawn) == {"KD", "PKD", "TAKD", "teacher x"}
