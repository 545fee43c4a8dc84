"""Figures of the page Examples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kdcore.figures import examples, palette
from kdcore.probes import calibration
from kdcore.probes.examples import OUTCOMES, compare_scores


def test_a_matrix_shows_its_counts_and_outlines_the_chosen_cell() -> None:
    counts = pd.DataFrame([[5, 1], [2, 7]], index=["no", "<b>yes"], columns=["no", "<b>yes"])
    figure = examples.matrix(counts, "teacher", "student", chosen=(0, 1))
    heat = figure.data[0]
    assert np.array_equal(np.asarray(heat.z), [[5, 1], [2, 7]])
    assert [list(row) for row in heat.text] == [["5", "1"], ["2", "7"]]
    assert list(figure.layout.yaxis.ticktext) == ["no", "&lt;b&gt;yes"]
    assert heat.customdata[0][1] == "no · &lt;b&gt;yes"
    assert figure.layout.yaxis.autorange == "reversed" and figure.layout.yaxis.title.text == "teacher"
    (box,) = figure.layout.shapes
    assert (box.x0, box.x1, box.y0, box.y1) == (0.5, 1.5, -0.5, 0.5)


def test_cells_of_right_and_wrong_are_named() -> None:
    sides = ["right", "wrong"]
    figure = examples.matrix(pd.DataFrame([[4, 3], [2, 1]], index=sides, columns=sides), "t", "s", outcomes=OUTCOMES)
    assert [list(row) for row in figure.data[0].text] == [
        ["<b>4</b><br>both right", "<b>3</b><br>lost"],
        ["<b>2</b><br>gained", "<b>1</b><br>both wrong"],
    ]
    heat = figure.data[0]
    quiet = {heat.z[0][0], heat.z[1][1]}
    assert len(quiet) == 1 and len({*quiet, heat.z[0][1], heat.z[1][0]}) == 3, "no number makes agreement stand out"
    assert not figure.layout.shapes


def test_a_matrix_of_many_labels_keeps_its_height_and_writes_no_numbers() -> None:
    names = [f"label {number}" for number in range(50)]
    figure = examples.matrix(pd.DataFrame(np.eye(50, dtype=int), index=names, columns=names), "t", "s")
    assert figure.layout.height == 900 and figure.data[0].texttemplate is None


@pytest.mark.parametrize("dark", [False, True])
def test_reliability_draws_bins_that_hold_rows(dark: bool) -> None:
    logits = np.log([[0.9, 0.1]] * 6 + [[0.3, 0.7]] * 5 + [[0.45, 0.55]])
    found = calibration.measure(logits, [0, 1] * 6)
    figure = examples.reliability([("t", "teacher", found), ("s", "kd", found)], dark)
    teacher, few, student, _ = figure.data[1:]
    assert list(teacher.customdata) == [5, 6] and list(few.customdata) == [1]
    assert list(teacher.x) == pytest.approx([70, 90]) and list(teacher.y) == pytest.approx([40, 50])
    assert few.mode == "markers" and not few.showlegend, "no line leads to a bin of chance"
    assert teacher.line.color == palette.teacher(dark).color and student.line.color == palette.style("kd", dark).color
    assert f"ECE {100 * found.ece:.1f} %" in student.name and f"Brier {found.brier:.3f}" in student.name
    assert figure.layout.xaxis.range[0] < 55 < figure.layout.xaxis.range[1]


def test_scores_stand_against_scores_with_the_line_of_agreement() -> None:
    rows = compare_scores([0, 1], [0.0, 4.0], [1.0, 4.5], [0.5, 5.5])
    line, dots = examples.scatter(rows, [0, 1], "t", "s", "pkd").data
    assert list(line.x) == list(line.y) == [0.0, 5.5]
    assert list(dots.x) == [1.0, 4.5] and list(dots.y) == [0.5, 5.5]
    assert dots.marker.color == palette.style("pkd").color


def test_probabilities_fill_one_bar_a_model() -> None:
    table = pd.DataFrame([[0.95, 0.05], [0.4, 0.6]], index=["<i>t", "s"], columns=["no", "yes"])
    figure = examples.probabilities(table)
    no, yes = figure.data
    assert list(no.x) == [95.0, 40.0] and list(yes.x) == [5.0, 60.0]
    assert list(yes.text) == ["", "60.0"], "a number that does not fit is left to the hover"
    assert [note.text for note in figure.layout.annotations] == ["&lt;i&gt;t", "s"]


def test_labels_that_nobody_finds_likely_are_drawn_as_one() -> None:
    values = np.full((2, 9), 0.02)
    values[:, [1, 3, 4, 6, 8]] = [0.2, 0.3, 0.1, 0.14, 0.18]
    figure = examples.probabilities(pd.DataFrame(values, index=["t", "s"], columns=list("abcdefghi")))
    assert [bar.name for bar in figure.data] == ["b", "d", "e", "g", "i", "all others"]
    assert sum(bar.x[0] for bar in figure.data) == pytest.approx(100)


def test_one_score_a_model() -> None:
    figure = examples.scores(pd.Series({"gold": 3.0, "student": 2.25}))
    assert list(figure.data[0].x) == [3.0, 2.25] and list(figure.data[0].text) == ["3.00", "2.25"]
    assert [note.text for note in figure.layout.annotations] == ["gold", "student"]
