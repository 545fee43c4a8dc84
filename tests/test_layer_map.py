"""Properties of the rules that pair layers, for every depth of student and teacher."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.layer_map import RULES

depths = st.integers(1, 48)
examples = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No example is judged by its time: other work may share the machine."""


def rule_or_error(name: str, student: int, teacher: int) -> dict[int, int] | None:
    """The map, or None where the rule refuses these depths."""
    try:
        return RULES[name](student, teacher)
    except UserError:
        return None


@pytest.mark.parametrize("name", RULES)
@examples
@given(student=depths, teacher=depths)
def test_every_student_layer_gets_a_layer_of_the_teacher_in_order(name, student, teacher):
    pairs = rule_or_error(name, student, teacher)
    if pairs is not None:
        assert list(pairs) == list(range(1, student + 1))
        layers = list(pairs.values())
        assert layers == sorted(layers) and layers[0] >= 1 and layers[-1] <= teacher


@pytest.mark.parametrize("name", RULES)
@examples
@given(student=depths, teacher=depths)
def test_a_student_that_is_no_deeper_shares_no_layer(name, student, teacher):
    pairs = rule_or_error(name, student, teacher)
    if pairs is not None and student <= teacher:
        assert len(set(pairs.values())) == student


@pytest.mark.parametrize("name", RULES)
@examples
@given(depth=depths)
def test_equal_depths_pair_layer_by_layer(name, depth):
    assert RULES[name](depth, depth) == {m: m for m in range(1, depth + 1)}


@examples
@given(student=depths, teacher=depths)
def test_a_rule_refuses_only_what_it_cannot_do(student, teacher):
    assert (rule_or_error("uniform", student, teacher) is None) == (teacher % student != 0)
    assert (rule_or_error("first", student, teacher) is None) == (student > teacher)
    assert (rule_or_error("last", student, teacher) is None) == (student > teacher)
    assert rule_or_error("spread", student, teacher) is not None


@examples
@given(student=depths, teacher=depths)
def test_spread_ends_at_the_top_and_stays_near_the_even_depth(student, teacher):
    pairs = layer_map.spread(student, teacher)
    assert pairs[student] == teacher
    assert all(abs(layer - m * teacher / student) <= 0.5 or layer == 1 for m, layer in pairs.items())
    assert layer_map.skip_init(student, teacher) == list(pairs.values())


@examples
@given(student=depths, factor=st.integers(1, 6))
def test_spread_is_uniform_where_uniform_divides(student, factor):
    assert layer_map.spread(student, factor * student) == layer_map.uniform(student, factor * student)


@examples
@given(student=depths, teacher=depths)
def test_first_and_last_are_the_two_ends(student, teacher):
    if student <= teacher:
        first, last = layer_map.first(student, teacher), layer_map.last(student, teacher)
        assert last[student] == teacher and first[1] == 1
        assert {last[m] - first[m] for m in first} == {teacher - student}


@examples
@given(student=depths, teacher=depths)
def test_common_depths_are_exact_and_complete(student, teacher):
    pairs = layer_map.common(student, teacher)
    assert len(pairs) == math.gcd(student, teacher) - 1
    assert all(m * teacher == layer * student and 0 < m < student and 0 < layer < teacher for m, layer in pairs.items())
    assert pairs == {
        m: m * teacher // student for m in range(1, student) if m * teacher % student == 0
    }  # every layer whose depth both have


@examples
@given(layers=st.lists(st.integers(-3, 20), min_size=1, max_size=8), teacher=st.integers(1, 16))
def test_an_explicit_map_is_taken_as_it_is_or_refused(layers, teacher):
    wrong = [layer for layer in layers if not 0 <= layer <= teacher]
    if wrong:
        with pytest.raises(UserError, match=str(wrong[0])):
            layer_map.explicit(layers, teacher)
    else:
        assert list(layer_map.explicit(layers, teacher).items()) == list(enumerate(layers, start=1))
