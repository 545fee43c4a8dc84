"""Scores of teachers as a method asks for them; what is made of them is tested with stochastic KD."""

import pytest

from kdcore.errors import UserError
from kdcore.methods.teacher_weights import all_scores


def test_the_scores_in_the_order_of_the_teachers():
    assert all_scores({"b": 0.7, "a": 0.0}, "options.choice", "rank", "choose uniform") == [0.7, 0.0]


def test_those_without_a_score_are_named_with_what_to_do():
    with pytest.raises(UserError) as said:
        all_scores({"a": None, "b": 0.7, "c": None}, "options.choice", "rank", "choose uniform")
    error = said.value
    assert (error.field, error.problem, error.remedy) == (
        "options.choice",
        "rank needs a score of a, c",
        "choose uniform",
    )
