"""The histogram of row lengths: shares add up, nothing is left out, and the cut stands where it is."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.figures.row_lengths import LONGEST, histogram


@pytest.mark.parametrize("dark", [False, True])
def test_shares_of_each_split_add_up(dark: bool) -> None:
    lengths = {"train": np.array([3, 4, 4, 200]), "validation": np.array([5, LONGEST * 9])}
    figure = histogram(lengths, 128, dark)
    assert [trace.name for trace in figure.data] == ["train", "validation"]
    for trace in figure.data:
        assert sum(trace.y) == pytest.approx(100)
    (line,) = figure.layout.shapes
    assert (line.x0, figure.layout.annotations[0].text) == (128, "cut at 128")


def test_splits_without_rows_and_short_rows() -> None:
    assert not histogram({"train": np.array([], np.int64)}, 8).data
    (trace,) = histogram({"train": np.array([2, 2])}, 8).data
    assert sum(trace.y) == pytest.approx(100)
