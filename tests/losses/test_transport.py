"""Costs of all pairs against the losses of one pair, and plans against what a plan must be."""

import itertools

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from kdcore.losses.attention import score_mse
from kdcore.losses.hidden import token_mse
from kdcore.losses.transport import score_costs, state_costs, transport_plan, unit_costs

LENGTHS = [4, 3, 1]
MASK = (torch.arange(4)[None] < torch.tensor(LENGTHS)[:, None]).long()


def random(*dims: int, seed: int) -> list[torch.Tensor]:
    return list(torch.randn(*dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def masses(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_costs_of_all_pairs_are_those_of_each():
    ours, theirs = random(2, 3, 4, 6, seed=1), random(3, 3, 4, 6, seed=2)
    expected = [[token_mse(s, t, MASK).item() for t in theirs] for s in ours]
    assert torch.allclose(
        state_costs(ours, theirs, MASK), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12
    )
    ours, theirs = random(2, 3, 2, 4, 4, seed=3), random(3, 3, 2, 4, 4, seed=4)
    expected = [[score_mse([s], [t], MASK).item() for t in theirs] for s in ours]
    assert torch.allclose(
        score_costs(ours, theirs, MASK), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12
    )


def test_padding_counts_for_nothing_even_where_it_is_not_finite():
    ours, theirs = random(2, 3, 4, 6, seed=1), random(3, 3, 4, 6, seed=2)
    wild = [state.masked_fill(~MASK.bool()[..., None], torch.inf) for state in ours]
    assert torch.equal(state_costs(wild, theirs, MASK), state_costs(ours, theirs, MASK))
    ours, theirs = random(2, 3, 2, 4, 4, seed=3), random(3, 3, 2, 4, 4, seed=4)
    valid = MASK.bool()
    beside = ~(valid[:, None, :, None] & valid[:, None, None, :])
    wild = [scores.masked_fill(beside, -torch.inf) for scores in ours]
    assert torch.equal(score_costs(wild, theirs, MASK), score_costs(ours, theirs, MASK))


def test_costs_have_gradients():
    theirs = random(3, 3, 4, 6, seed=2)
    ours = [state.requires_grad_() for state in random(2, 3, 4, 6, seed=1)]
    assert gradcheck(lambda *states: state_costs(states, theirs, MASK), ours)
    theirs = random(2, 3, 2, 4, 4, seed=4)
    ours = [scores.requires_grad_() for scores in random(2, 3, 2, 4, 4, seed=3)]
    assert gradcheck(lambda *scores: score_costs(scores, theirs, MASK), ours)


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_keeps_the_masses_and_is_a_vertex(seed):
    (costs,) = random(1, 4, 6, seed=seed)
    ours, theirs = masses(0.1, 0.2, 0.3, 0.4), masses(0.05, 0.15, 0.2, 0.2, 0.3, 0.1)
    plan = transport_plan(costs.abs(), ours, theirs)
    torch.testing.assert_close(plan.sum(1), ours, atol=1e-9, rtol=0)
    torch.testing.assert_close(plan.sum(0), theirs, atol=1e-9, rtol=0)
    assert (plan >= 0).all() and int((plan > 1e-9).sum()) <= 4 + 6 - 1
    total = (plan * costs.abs()).sum()
    assert costs.abs().min() <= total <= costs.abs().max()


def test_the_plan_is_the_cheapest_of_all_assignments():
    """Between equal numbers of equal masses a cheapest plan is a permutation."""
    (costs,) = random(1, 4, 4, seed=7)
    quarter = masses(0.25, 0.25, 0.25, 0.25)
    best = min(sum(costs[i, j].item() for i, j in enumerate(order)) / 4 for order in itertools.permutations(range(4)))
    assert (transport_plan(costs, quarter, quarter) * costs).sum().item() == pytest.approx(best, rel=1e-9)


def slow_plan(costs: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> np.ndarray:
    """The cheapest of all plans that use no more cells than it has layers, less one: every vertex is among them."""
    m, n = costs.shape
    cells = list(itertools.product(range(m), range(n)))
    sums = np.concatenate([ours.numpy(), theirs.numpy()[:-1]])
    best, cheapest = np.inf, np.zeros((m, n))
    for used in itertools.combinations(cells, m + n - 1):
        which = np.array([[float(i == row) for i, _ in used] for row in range(m)]
                         + [[float(j == column) for _, j in used] for column in range(n - 1)])  # fmt: skip
        if abs(np.linalg.det(which)) < 0.5:
            continue
        moved = np.linalg.solve(which, sums)
        total = sum(costs[i, j].item() * mass for (i, j), mass in zip(used, moved, strict=True))
        if moved.min() >= -1e-12 and total < best:
            best, cheapest = total, np.zeros((m, n))
            for (i, j), mass in zip(used, moved, strict=True):
                cheapest[i, j] = mass
    return cheapest


@pytest.mark.parametrize("seed", range(6))
def test_the_plan_is_the_cheapest_of_all_vertices(seed):
    (costs,) = random(1, 2, 4, seed=seed)
    ours, theirs = masses(0.35, 0.65), masses(0.1, 0.2, 0.3, 0.4)
    found, expected = transport_plan(costs.abs(), ours, theirs), torch.from_numpy(slow_plan(costs.abs(), ours, theirs))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_equal_costs_are_the_loss_whatever_the_masses():
    plan = transport_plan(torch.full((2, 3), 0.7, dtype=torch.float64), masses(0.9, 0.1), masses(0.2, 0.5, 0.3))
    assert (plan * 0.7).sum().item() == pytest.approx(0.7, rel=1e-10)


def test_equal_layers_are_carried_to_themselves():
    costs = 1 - torch.eye(3, dtype=torch.float64)
    third = masses(1 / 3, 1 / 3, 1 / 3)
    torch.testing.assert_close(transport_plan(costs, third, third), torch.eye(3, dtype=torch.float64) / 3)


def test_permuting_layers_with_their_masses_changes_no_cost():
    (costs,) = random(1, 3, 5, seed=9)
    costs, ours, theirs = costs.abs(), masses(0.2, 0.3, 0.5), masses(0.1, 0.1, 0.2, 0.25, 0.35)
    order = torch.tensor([3, 0, 4, 1, 2])
    one = (transport_plan(costs, ours, theirs) * costs).sum()
    other = (transport_plan(costs[:, order], ours, theirs[order]) * costs[:, order]).sum()
    torch.testing.assert_close(one, other)


def test_costs_that_are_no_numbers_give_the_masses_product():
    costs = torch.tensor([[1.0, torch.nan], [2.0, 3.0]])
    plan = transport_plan(costs, masses(0.25, 0.75), masses(0.5, 0.5))
    assert plan.tolist() == [[0.125, 0.125], [0.375, 0.375]]


def test_cost_of_a_unit_of_mass():
    plan = masses(0.2, 0.1, 0.0, 0.7).view(2, 2)
    costs = masses(1.0, 4.0, 9.0, 2.0).view(2, 2)
    assert unit_costs(plan, costs, 1).tolist() == pytest.approx([(0.2 + 0.4) / 0.3, 2.0])
    assert unit_costs(plan, costs, 0).tolist() == pytest.approx([1.0, (0.4 + 1.4) / 0.8])
    assert unit_costs(masses(0.0, 0.0, 0.5, 0.5).view(2, 2), costs, 1)[0] == 0
