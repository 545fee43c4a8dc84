"""Words shaded by their attribution: each in its place, text letter by letter, one scale."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.figures import saliency

TOKENS = [f"w{number}" for number in range(8)]


def test_each_word_stands_in_its_line_once_per_model() -> None:
    teacher, student = np.arange(8) - 4.0, -np.arange(8.0)
    figure = saliency.word_map(TOKENS, {"Teacher": teacher, "Student": student}, "Words", top=9.0)
    (heat,) = figure.data
    z, width = np.asarray(heat.z, float), saliency.WORDS_A_LINE
    np.testing.assert_array_equal(z[[0, 1], :], [teacher[:width], student[:width]])
    assert np.isnan(z[2]).all(), "room between two lines"
    np.testing.assert_array_equal(z[[3, 4], : 8 - width], [teacher[width:], student[width:]])
    assert np.isnan(z[3:, 8 - width :]).all()
    assert list(heat.text[3]) == ["w5", "w6", "w7", "", ""] and heat.customdata[4][1] == "w6, Student: -6.000"
    assert list(figure.layout.yaxis.ticktext) == ["Teacher", "Student", "", "Teacher", "Student"]
    assert (heat.zmin, heat.zmid, heat.zmax) == (-9.0, 0, 9.0)


def test_typed_text_is_no_markup_and_long_words_are_cut() -> None:
    figure = saliency.word_map(["<b>", "extraordinarily"], {"Student": [1.0, 2.0]}, "Words", top=2.0, dark=True)
    assert list(figure.data[0].text[0][:2]) == ["&lt;b&gt;", "extraord…"]
    assert figure.data[0].customdata[0][1].startswith("extraordinarily, Student")


def test_the_scale_is_shared_and_never_empty() -> None:
    assert saliency.shared_top([0.5, -3.0], [1.0]) == 3.0
    assert saliency.shared_top([0.0], [0.0]) == 1.0 and saliency.shared_top() == 1.0


def test_values_of_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="8 tokens"):
        saliency.word_map(TOKENS, {"Student": [1.0]}, "Words", top=1.0)
