"""A policy that takes rows: its own gradient against finite differences, and where a reward moves it."""

import math

import pytest
import torch
from torch.optim import Adam

from kdcore.methods import METHODS
from kdcore.methods.row_selector import RowSelector

SEEN, WIDTH = 5, 4
GENERATOR = torch.Generator().manual_seed(6)
STATE = torch.randn(7, SEEN, generator=GENERATOR, dtype=torch.float64)
CHOSEN = torch.tensor([1.0, 0, 1, 1, 0, 0, 1], dtype=torch.float64)


@pytest.fixture
def selector() -> RowSelector:
    """In float64, with weights of which none is 0."""
    made = RowSelector(SEEN, WIDTH, seed=3).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=GENERATOR, dtype=torch.float64))
    return made


def log_chance(selector) -> float:
    """Of what was drawn, one row and one number at a time."""
    first, bias, (last,), (constant,) = (parameter.tolist() for parameter in selector.parameters())
    total = 0.0
    for x, a in zip(STATE.tolist(), CHOSEN.tolist(), strict=True):
        hidden = [
            max(0.0, sum(w * v for w, v in zip(row, x, strict=True)) + b) for row, b in zip(first, bias, strict=True)
        ]
        p = 1 / (1 + math.exp(-sum(w * h for w, h in zip(last, hidden, strict=True)) - constant))
        total += math.log(p if a else 1 - p)
    return total


def flat(selector) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(selector.parameters()).detach().clone()


def test_it_begins_with_one_chance_for_every_row():
    assert RowSelector(SEEN, WIDTH, 0)(STATE.float()).tolist() == [1.0] * 7


def test_its_score_is_the_slope_of_the_log_chance(selector):
    found, start = selector.score(STATE, CHOSEN), flat(selector)
    for place in range(len(start)):
        values = []
        for step in (1e-6, -1e-6):
            moved = start.clone()
            moved[place] += step
            torch.nn.utils.vector_to_parameters(moved, selector.parameters())
            values.append(log_chance(selector))
        assert found[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7)
    torch.nn.utils.vector_to_parameters(start, selector.parameters())
    drawn_less_chance = (CHOSEN - selector(STATE).sigmoid()).sum()
    assert found[-1].item() == pytest.approx(drawn_less_chance.item(), rel=1e-10)


@pytest.mark.parametrize(("second", "sign"), [(-0.9, 1), (-1.1, -1), (-1.0, 0)])
def test_what_earned_more_than_before_becomes_likelier(selector, second, sign):
    optimizer, before = Adam(selector.parameters(), lr=1e-3), flat(selector)
    score, rows = selector.score(STATE, CHOSEN), torch.tensor(7)
    selector.add(score, rows)
    selector.learn(-1.0, optimizer)
    assert flat(selector).equal(before), "the first episode only sets the baseline"
    was = log_chance(selector)
    selector.add(score, rows)
    selector.learn(second, optimizer)
    moved = log_chance(selector) - was
    assert (moved > 0) - (moved < 0) == sign
    assert flat(selector).equal(before) == (sign == 0)
    assert not selector.gradient.any() and not selector.rows and selector.notes()["reward/last episode"] == second


def test_an_episode_without_rows_moves_nothing(selector):
    optimizer, before = Adam(selector.parameters(), lr=1e-3), flat(selector)
    for reward in (-1.0, -0.5):
        selector.learn(reward, optimizer)
    assert flat(selector).equal(before) and selector.notes()["reward/mean"] == -0.75


def test_an_episode_adds_up_and_travels_with_a_checkpoint(selector):
    selector.add(selector.score(STATE[:3], CHOSEN[:3]), torch.tensor(3))
    again = RowSelector(SEEN, WIDTH, seed=9).double()
    again.load_state_dict(selector.state_dict())
    for one in (selector, again):
        one.add(one.score(STATE[3:], CHOSEN[3:]), torch.tensor(4))
    torch.testing.assert_close(again.gradient, selector.score(STATE, CHOSEN))
    assert again.gradient.equal(selector.gradient) and int(again.rows) == 7


@torch.no_grad()
def test_rewards_that_agree_leave_rows_out():
    """With the defaults of L2A, over rows as it sees them: chances of two classes, and three numbers around 0.3."""
    config = METHODS["l2a"].Config()
    selector = RowSelector(5, config.selector_width, seed=0)
    optimizer = Adam(selector.parameters(), lr=config.selector_rate)
    drawn = torch.rand(64, 4, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([drawn[:, :1], 1 - drawn[:, :1], 0.6 * drawn[:, 1:]], dim=1)
    assert float(selector(rows).sigmoid().min()) > config.threshold
    for episode in range(config.episodes):
        with torch.enable_grad():
            score = selector.score(rows, torch.ones(64))
        selector.add(score, torch.tensor(64))
        selector.learn(-float(episode), optimizer)
    assert float(selector(rows).sigmoid().mean()) < config.threshold
