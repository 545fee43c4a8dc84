"""One panel of linear probes: both models over relative depth, bands and chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kdcore.figures import linear_probe, lost

ROWS = pd.DataFrame(
    [(model, layer, layer / last, 0.5 + 0.1 * layer, 0.4 + 0.1 * layer, 0.6 + 0.1 * layer)
     for model, last in (("student", 2), ("teacher", 4)) for layer in range(last + 1)],
    columns=["model", "layer", "depth", "accuracy", "low", "high"],
)  # fmt: skip


@pytest.mark.parametrize("dark", [False, True])
def test_a_panel_has_both_models_their_bands_and_chance(dark: bool) -> None:
    figure = linear_probe.panel(ROWS, "The word “<b>”", 0.55, "kd", lowest=30, dark=dark)
    of_teacher, teacher, of_student, student = figure.data
    assert (teacher.name, student.name) == ("teacher", "student")
    assert list(student.x) == [0, 0.5, 1] and list(teacher.x) == [0, 0.25, 0.5, 0.75, 1]
    assert list(student.y) == pytest.approx([50, 60, 70])
    assert list(of_student.y) == pytest.approx([60, 70, 80, 60, 50, 40]) and of_teacher.meta == "band"
    assert student.customdata[0] == "embeddings" and student.customdata[2] == "layer 2 of 2"
    assert student.line.color != teacher.line.color
    assert figure.layout.shapes[0].y0 == pytest.approx(55) and figure.layout.yaxis.range[0] == 30
    assert "<b>" not in figure.layout.title.text


def test_odds_near_one_have_ticks_beside_it() -> None:
    table = pd.DataFrame(
        {"feature": ["length"], "unit": ["one std"], "ratio": [1.6], "low": [1.4], "high": [1.9]}
    )  # fmt: skip
    near = lost.odds(table).layout.xaxis.tickvals
    assert {1.0, 1.5, 2.0} <= set(near)
    far = lost.odds(table.assign(high=40.0, low=np.nan)).layout.xaxis.tickvals
    assert 1.5 not in far and {1.0, 10.0} <= set(far)
