"""Mixtures of layers against loops in float64."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.losses.mixture import layer_shares, mixture_mse

ROWS, OURS, THEIRS, WIDTH = 4, 2, 3, 5
SEEN = torch.tensor([[True, True, False], [False, True, True]])


def states(layers: int, seed: int, *tokens: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, *tokens, layers, WIDTH, generator=generator, dtype=torch.float64)


def slow(student: torch.Tensor, teacher: torch.Tensor, seen: torch.Tensor, scale: float) -> tuple[list, list]:
    """Shares and squared distances of one token's layers, one number at a time."""
    shares, apart = [], []
    for j, ours in enumerate(student.tolist()):
        weights = [
            math.exp(scale * sum(a * b for a, b in zip(ours, theirs, strict=True))) if seen[j, i] else 0.0
            for i, theirs in enumerate(teacher.tolist())
        ]
        shares.append([weight / sum(weights) for weight in weights])
        mixed = [sum(shares[-1][i] * teacher[i, d].item() for i in range(len(weights))) for d in range(len(ours))]
        apart.append(sum((a - b) ** 2 for a, b in zip(ours, mixed, strict=True)) / len(ours))
    return shares, apart


@pytest.mark.parametrize("scale", [1.0, WIDTH**-0.5])
def test_equals_the_loop(scale):
    student, teacher = states(OURS, 1), states(THEIRS, 2)
    found = layer_shares(student, teacher, SEEN, scale)
    total = 0.0
    for row in range(ROWS):
        shares, apart = slow(student[row], teacher[row], SEEN, scale)
        assert found[row].flatten().tolist() == pytest.approx([share for layer in shares for share in layer], rel=1e-10)
        total += sum(apart) / ROWS
    assert mixture_mse(student, teacher, found).item() == pytest.approx(total, rel=1e-10)


def test_on_all_tokens_equals_the_loop_and_sees_no_padding():
    lengths = [3, 1, 2, 3]
    mask = (torch.arange(3)[None] < torch.tensor(lengths)[:, None]).long()
    student, teacher = states(OURS, 1, 3), states(THEIRS, 2, 3)
    total = 0.0
    for row, length in enumerate(lengths):
        total += (
            sum(sum(slow(student[row, at], teacher[row, at], SEEN, 1.0)[1]) for at in range(length)) / length / ROWS
        )
    assert mixture_mse(student, teacher, layer_shares(student, teacher, SEEN), mask).item() == pytest.approx(
        total, rel=1e-10
    )
    student = student.masked_fill(~mask.bool()[..., None, None], 9.0)
    assert mixture_mse(student, teacher, layer_shares(student, teacher, SEEN), mask).item() == pytest.approx(
        total, rel=1e-10
    )


def test_shares_are_a_distribution_over_what_is_seen():
    shares = layer_shares(states(OURS, 3), states(THEIRS, 4), SEEN)
    torch.testing.assert_close(shares.sum(-1), torch.ones(ROWS, OURS, dtype=torch.float64))
    assert (shares >= 0).all() and (shares[:, ~SEEN] == 0).all()


def test_a_mixture_lies_within_what_it_mixes():
    teacher = states(THEIRS, 4)
    shares = layer_shares(states(OURS, 3), teacher, SEEN)
    mixed = torch.einsum("bji,biw->bjw", shares, teacher)
    assert mixture_mse(mixed, teacher, shares).item() == pytest.approx(0, abs=1e-25)
    for j in range(OURS):
        seen = teacher[:, SEEN[j]]
        assert ((seen.amin(1) <= mixed[:, j]) & (mixed[:, j] <= seen.amax(1))).all()


def test_products_of_hundreds_overflow_nothing():
    shares = layer_shares(
        100 * states(OURS, 3).float(), 100 * states(THEIRS, 4).float(), torch.ones(OURS, THEIRS).bool()
    )
    assert torch.isfinite(shares).all() and shares.max() == 1


def test_gradients():
    student, teacher = states(OURS, 5).requires_grad_(), states(THEIRS, 6)
    assert gradcheck(lambda s: mixture_mse(s, teacher, layer_shares(s, teacher, SEEN)), student)
