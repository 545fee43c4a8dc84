"""Maps between widths start so that equal models have no loss and others keep the scale of their states."""

from __future__ import annotations

import pytest
import torch

from kdcore.models.projections import StackedLinear, linear, linears


def test_equal_widths_start_as_the_identity() -> None:
    states = torch.randn(2, 3, 5, 8)
    maps = linears(("one", "two"), 8, 8, seed=1)
    assert list(maps) == ["one", "two"]
    assert all(torch.equal(each(states), states) for each in maps.values())
    assert torch.equal(StackedLinear(2, 8, 8, seed=1)(states), states)


@pytest.mark.parametrize(("student", "teacher"), [(64, 96), (96, 64)])
def test_other_widths_keep_the_scale_of_states(student: int, teacher: int) -> None:
    states = torch.randn(1, 4, 100, student, generator=torch.Generator().manual_seed(0))
    for mapped in (
        linears(("only",), student, teacher, seed=3)["only"](states),
        StackedLinear(1, student, teacher, 3)(states),
    ):
        assert mapped.shape == (1, 4, 100, teacher)
        assert mapped.std().item() == pytest.approx(1.0, abs=0.1)


def test_weights_follow_from_the_seed_and_not_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    one, same, other = (linears(("a", "b"), 4, 6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one["b"].weight, same["b"].weight) and not torch.equal(one["b"].weight, other["b"].weight)
    assert not torch.equal(one["a"].weight, one["b"].weight)


def test_a_single_map_is_the_first_of_its_seed() -> None:
    one, several = linear(4, 6, seed=3), linears(("a", "b"), 4, 6, seed=3)
    assert torch.equal(one.weight, several["a"].weight) and not one.bias.any()


def test_one_map_for_each_place_or_one_for_all() -> None:
    states = torch.randn(3, 2, 4, 5)
    each = StackedLinear(3, 5, 7, seed=0)
    expected = [states[place] @ each.weight[place] + each.bias[place] for place in range(3)]
    torch.testing.assert_close(each(states), torch.stack(expected))
    assert StackedLinear(1, 5, 7, seed=0)(states).shape == (3, 2, 4, 7)
