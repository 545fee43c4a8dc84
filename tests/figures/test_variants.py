"""The plot of runs that lack one part."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kdcore.figures import palette
from kdcore.figures.variants import variants

NAN = float("nan")


def _rows() -> pd.DataFrame:
    columns = ["label", "n", "mean", "change", "low", "high"]
    return pd.DataFrame(
        [("without a", 3, 0.7, -0.1, -0.12, -0.08), ("without <b>", 3, 0.79, -0.01, -0.03, 0.01),
         ("without c", 1, 0.85, 0.05, NAN, NAN), ("without d", 0, NAN, NAN, NAN, NAN)],
        columns=columns,
    )  # fmt: skip


def test_each_run_is_a_point_with_its_interval_and_words() -> None:
    figure = variants(_rows(), "Accuracy (%)", "Patient KD", "pkd")
    points, words = figure.data
    np.testing.assert_allclose(points.x, [-10, -1, 5])
    np.testing.assert_allclose(points.error_x.array[:2], [2, 2])
    np.testing.assert_allclose(points.error_x.arrayminus[:2], [2, 2])
    assert [word.strip() for word in words.text] == ["-10.0 ± 2.0", "-1.0 ± 2.0", "+5.0, one seed"]
    assert list(figure.layout.yaxis.ticktext) == ["without a", "without &lt;b&gt;", "without c"]
    assert points.marker.color == palette.style("pkd").color
    assert figure.layout.xaxis.title.text == "Accuracy (%): points over the whole method"
    assert figure.layout.shapes[0].x0 == 0 and figure.layout.annotations[0].text == "Patient KD"


def test_a_tenth_of_a_point_is_drawn_as_little() -> None:
    rows = _rows()[:1].assign(change=-0.001, low=-0.002, high=0.0)
    low, high = variants(rows, "t", "w", "pkd").layout.xaxis.range
    assert high - low > 4.0
