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


@examples
@given(student=depths, teacher=depths)
def test_blocks_hold_every_layer_of_a_deeper_teacher_once_and_in_order(student, teacher):
    blocks = layer_map.blocks(student, teacher)
    assert list(blocks) == list(range(1, student + 1)) and all(blocks.values())
    if student <= teacher:
        assert [layer for block in blocks.values() for layer in block] == list(range(1, teacher + 1))
        sizes = {len(block) for block in blocks.values()}
        assert max(sizes) - min(sizes) <= 1


def test_blocks_of_equal_depths_are_the_uniform_map():
    assert layer_map.blocks(4, 4) == layer_map.alone(layer_map.uniform(4, 4))
    assert layer_map.blocks(2, 6) == {1: (1, 2, 3), 2: (4, 5, 6)}
    assert layer_map.blocks(3, 4) == {1: (1,), 2: (2,), 3: (3, 4)}
    assert layer_map.blocks(4, 2) == {1: (1,), 2: (1,), 3: (2,), 4: (2,)}


@examples
@given(student=depths, teacher=depths, seed=st.integers(0, 2**31))
def test_drawn_layers_follow_from_the_seed_and_rise(student, teacher, seed):
    if student > teacher:
        with pytest.raises(UserError, match="no deeper"):
            layer_map.random_layers(student, teacher, seed)
        return
    drawn = layer_map.random_layers(student, teacher, seed)
    assert drawn == layer_map.random_layers(student, teacher, seed)
    layers = list(drawn.values())
    assert list(drawn) == list(range(1, student + 1)) and layers == sorted(set(layers))
    assert layers[0] >= 1 and layers[-1] <= teacher


def test_other_seeds_draw_other_layers():
    assert len({tuple(layer_map.random_layers(3, 12, seed).values()) for seed in range(20)}) > 5


def test_pairs_and_single_undo_alone():
    pairs = {0: 0, 1: 4, 3: 4}
    assert layer_map.single(layer_map.alone(pairs)) == pairs
    assert list(layer_map.pairs({1: (2, 3), 2: (3,)})) == [(1, 2), (1, 3), (2, 3)]
    with pytest.raises(ValueError, match="unpack"):
        layer_map.single({1: (2, 3)})


def test_a_chosen_rule_or_list_is_refused_under_the_name_of_its_setting():
    assert layer_map.from_setting("last", 3, 6) == {1: 4, 2: 5, 3: 6}
    assert layer_map.from_setting("last", 3, 6, count=2) == {1: 4, 2: 5}
    assert layer_map.from_setting((6, 1), 3, 6, count=2) == {1: 6, 2: 1}
    with pytest.raises(UserError, match=r"options\.depths.*not whole.*choose spread"):
        layer_map.from_setting("uniform", 3, 4, field="options.depths")
    with pytest.raises(UserError, match=r"options\.layers.*lists 2.*has 3 to match"):
        layer_map.from_setting((1, 2), 3, 6)
    with pytest.raises(UserError, match=r"options\.layers.*\[7\]"):
        layer_map.from_setting((1, 2, 7), 3, 6)


def test_sides_of_a_map_are_what_is_read_of_each_model():
    assert layer_map.sides({3: 6, 1: 2, 2: 6}) == ((3, 1, 2), (2, 6))
    assert layer_map.sides({}) == ((), ())
