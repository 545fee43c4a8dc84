"""Draws among teachers: as likely as they should be, from the given generator alone, and counted once a step."""

from collections import Counter

import pytest
import torch

from kdcore.methods.draws import Draws

CHANCES = {"a": 0.2, "b": 0.5, "c": 0.3}


def test_each_is_drawn_as_often_as_it_is_likely():
    rng, draws = torch.Generator().manual_seed(0), Draws(CHANCES)
    counts = Counter(draws.draw(CHANCES, rng) for _ in range(2000))
    assert [counts[name] / 2000 for name in CHANCES] == pytest.approx(list(CHANCES.values()), abs=0.04)
    assert draws.total == 0


def test_a_draw_follows_from_the_generator_alone():
    before, draws = torch.get_rng_state(), Draws(CHANCES)
    drawn = [[draws.draw(CHANCES, torch.Generator().manual_seed(seed)) for seed in range(20)] for _ in range(2)]
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_shares_of_what_was_counted():
    draws = Draws(CHANCES)
    for name in ("a", "c", "c", "b", "c"):
        draws.count([name])
    assert draws.total == 5
    shares = {"draws/a": 0.2, "draws/b": 0.2, "draws/c": 0.6}
    assert draws.notes(CHANCES) == shares | {f"chance/{name}": chance for name, chance in CHANCES.items()}


def test_counts_come_back_for_the_teachers_that_are_there():
    draws = Draws(CHANCES)
    draws.restore({"a": 2, "c": 7, "gone": 4})
    assert draws.counts == {"a": 2, "b": 0, "c": 7}
