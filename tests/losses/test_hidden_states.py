"""Losses on states: hand-worked values, loops in float64, masking, and what scaling must not change."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.losses.hidden import (
    attention_transfer,
    content_means,
    cosine,
    patience,
    row_means,
    token_mse,
    token_patience,
)

LENGTHS = [5, 3, 1]


def states(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask() -> torch.Tensor:
    return (torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]).long()


def layers(seed: int, count: int = 2) -> list[torch.Tensor]:
    return [states(3, 4, seed=seed + layer) for layer in range(count)]


def test_patience_by_hand():
    student, teacher = [torch.tensor([[3.0, 4.0]])], [torch.tensor([[0.0, 2.0]])]
    # normalised (0.6, 0.8) against (0, 1): (0.36 + 0.04) / 2
    assert patience(student, teacher, normalise=True).item() == pytest.approx(0.2)
    # as they are: (9 + 4) / 2
    assert patience(student, teacher, normalise=False).item() == pytest.approx(6.5)


@pytest.mark.parametrize("normalise", [True, False])
def test_patience_equals_the_loop(normalise):
    student, teacher = layers(1), layers(11)
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        for s, t in zip(ours.tolist(), theirs.tolist(), strict=True):
            length_s = math.sqrt(sum(x * x for x in s)) if normalise else 1.0
            length_t = math.sqrt(sum(x * x for x in t)) if normalise else 1.0
            total += sum((x / length_s - y / length_t) ** 2 for x, y in zip(s, t, strict=True))
    assert patience(student, teacher, normalise).item() == pytest.approx(total / (2 * 3 * 4), rel=1e-10)


def test_normalised_patience_is_two_minus_two_cosines_over_width():
    student, teacher = layers(1), layers(11)
    cosines = torch.stack([torch.cosine_similarity(s, t, dim=-1) for s, t in zip(student, teacher, strict=True)])
    value = patience(student, teacher, normalise=True)
    assert value.item() == pytest.approx(((2 - 2 * cosines) / 4).mean().item(), rel=1e-10)
    assert patience(student, [-s for s in student], normalise=True).item() == pytest.approx(4 / 4)


def test_only_normalised_patience_ignores_lengths():
    student, teacher = layers(1), layers(11)
    longer = [student[0] * torch.tensor([[0.1], [1.0], [30.0]], dtype=torch.float64), student[1]]
    torch.testing.assert_close(patience(longer, teacher, True), patience(student, teacher, True))
    assert not torch.isclose(patience(longer, teacher, False), patience(student, teacher, False))


@pytest.mark.parametrize("normalise", [True, False])
def test_patience_is_zero_on_equal_states_and_has_right_gradients(normalise):
    student, teacher = layers(1), layers(11)
    assert patience(student, student, normalise).item() == 0.0
    inputs = tuple(layer.requires_grad_() for layer in student)
    assert gradcheck(lambda a, b: patience([a, b], teacher, normalise), inputs)


def test_patience_over_nothing_is_an_error():
    with pytest.raises(ValueError, match="0 student layers"):
        patience([], [], True)
    with pytest.raises(ValueError, match="2 student layers with 1"):
        patience(layers(1), layers(11, count=1), True)


def tokens(seed: int, count: int = 2) -> list[torch.Tensor]:
    return [states(3, 5, 4, seed=seed + layer) for layer in range(count)]


@pytest.mark.parametrize("normalise", [True, False])
def test_token_patience_equals_the_loop(normalise):
    student, teacher = tokens(1), tokens(11)
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        for b, length in enumerate(LENGTHS):
            for s, t in zip(ours[b, :length].tolist(), theirs[b, :length].tolist(), strict=True):
                length_s = math.sqrt(sum(x * x for x in s)) if normalise else 1.0
                length_t = math.sqrt(sum(x * x for x in t)) if normalise else 1.0
                apart = sum((x / length_s - y / length_t) ** 2 for x, y in zip(s, t, strict=True))
                total += apart / (2 * len(LENGTHS) * length * 4)  # layers, rows, the row's tokens, width
    assert token_patience(student, teacher, mask(), normalise).item() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("normalise", [True, False])
def test_token_patience_of_rows_of_one_token_is_patience(normalise):
    student, teacher = tokens(1), tokens(11)
    alone = torch.zeros(3, 5).index_fill(1, torch.tensor([0]), 1)
    first = patience([s[:, 0] for s in student], [t[:, 0] for t in teacher], normalise)
    torch.testing.assert_close(token_patience(student, teacher, alone, normalise), first, rtol=1e-10, atol=0)


@pytest.mark.parametrize("normalise", [True, False])
def test_token_patience_gradients_and_padding(normalise):
    student, teacher = tokens(1), tokens(11)
    assert token_patience(student, student, mask(), normalise).item() == 0.0
    noisy = [s.masked_fill(~mask().bool()[..., None], 1e6) for s in student]
    value = token_patience(student, teacher, mask(), normalise)
    torch.testing.assert_close(token_patience(noisy, teacher, mask(), normalise), value)
    inputs = tuple(layer.requires_grad_() for layer in student)
    assert gradcheck(lambda a, b: token_patience([a, b], teacher, mask(), normalise), inputs)
    (gradient,) = torch.autograd.grad(token_patience(student, teacher, mask(), normalise), student[:1])
    assert torch.equal(gradient.abs().sum(-1) > 0, mask().bool())


def test_token_patience_over_nothing_is_an_error():
    with pytest.raises(ValueError, match="0 student layers"):
        token_patience([], [], mask(), True)


def test_cosine_by_hand():
    student = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[0.0, 5.0], [-2.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]]])
    valid = torch.tensor([[1, 1], [1, 0]])
    # row 1: (1 + 2) / 2; row 2: its one token is parallel, 0
    assert cosine(student, teacher, valid).item() == pytest.approx((1.5 + 0.0) / 2)


def test_cosine_equals_the_loop():
    student, teacher = states(3, 5, 4, seed=1), states(3, 5, 4, seed=2)
    rows = []
    for b, length in enumerate(LENGTHS):
        apart = [1 - torch.dot(student[b, i], teacher[b, i]) / (student[b, i].norm() * teacher[b, i].norm())
                 for i in range(length)]  # fmt: skip
        rows.append(sum(x.item() for x in apart) / length)
    assert cosine(student, teacher, mask()).item() == pytest.approx(sum(rows) / 3, rel=1e-10)


def test_cosine_ignores_length_and_padding_and_is_bounded():
    student, teacher = states(3, 5, 4, seed=1), states(3, 5, 4, seed=2)
    value = cosine(student, teacher, mask())
    torch.testing.assert_close(cosine(student * 7.0, teacher * 0.1, mask()), value)
    noisy = student.masked_fill(~mask().bool()[..., None], 1e6)
    torch.testing.assert_close(cosine(noisy, teacher, mask()), value)
    unreal = student.masked_fill(~mask().bool()[..., None], float("nan"))
    torch.testing.assert_close(cosine(unreal, teacher, mask()), value)
    assert cosine(student, student, mask()).item() == pytest.approx(0.0, abs=1e-12)
    assert cosine(student, -student, mask()).item() == pytest.approx(2.0)


def test_cosine_gradient_reaches_valid_tokens_only():
    student, teacher = states(3, 5, 4, seed=1).requires_grad_(), states(3, 5, 4, seed=2)
    assert gradcheck(lambda s: cosine(s, teacher, mask()), student)
    (gradient,) = torch.autograd.grad(cosine(student, teacher, mask()), student)
    reached = gradient.abs().sum(-1) > 0
    assert torch.equal(reached, mask().bool())


def test_cosine_weighs_rows_not_tokens():
    """A mean over all tokens of the batch would let the long row outvote the short one."""
    student, teacher = torch.ones(2, 4, 2), torch.ones(2, 4, 2)
    teacher[1, 0] = -1
    lengths = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    assert cosine(student, teacher, lengths).item() == pytest.approx(1.0)


def test_token_mse_by_hand():
    student = torch.tensor([[[1.0, 0.0], [2.0, 2.0]], [[0.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[0.0, 3.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    valid = torch.tensor([[1, 1], [1, 0]])
    # row 1: ((1 + 9) / 2 + (0 + 4) / 2) / 2; row 2: its one token, 1 / 2
    assert token_mse(student, teacher, valid).item() == pytest.approx((3.5 + 0.5) / 2)


def test_token_mse_equals_the_loop_layer_by_layer():
    student, teacher = states(2, 3, 5, 4, seed=1), states(2, 3, 5, 4, seed=2)
    expected = []
    for ours, theirs in zip(student, teacher, strict=True):
        rows = [float((ours[b, :n] - theirs[b, :n]).square().sum()) / (4 * n) for b, n in enumerate(LENGTHS)]
        expected.append(sum(rows) / 3)
    assert token_mse(student, teacher, mask()).tolist() == pytest.approx(expected, rel=1e-10)
    assert token_mse(student[0], teacher[0], mask()).item() == pytest.approx(expected[0], rel=1e-10)


def test_token_mse_ignores_padding_and_has_right_gradients():
    student, teacher = states(3, 5, 4, seed=1).requires_grad_(), states(3, 5, 4, seed=2)
    value = token_mse(student, teacher, mask())
    unreal = teacher.masked_fill(~mask().bool()[..., None], float("nan"))
    assert torch.equal(token_mse(student, unreal, mask()), value)
    assert gradcheck(lambda s: token_mse(s, teacher, mask()), student)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.equal(gradient.abs().sum(-1) > 0, mask().bool())
    assert token_mse(student, student, mask()).item() == 0.0


def test_content_means_leave_out_the_first_token_and_padding():
    all_states = states(3, 5, 4)
    expected = [all_states[b, 1:length].mean(0) if length > 1 else torch.zeros(4) for b, length in enumerate(LENGTHS)]
    torch.testing.assert_close(content_means(all_states, mask()), torch.stack(expected).double())
    all_states[1, 3:], all_states[2, 1:], all_states[:, 0] = float("nan"), float("inf"), 7.0
    torch.testing.assert_close(content_means(all_states, mask())[1:], torch.stack(expected).double()[1:])


def test_row_means_by_hand():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 7.0, 9.0], [1.0, 1.0, 1.0]])
    valid = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    assert row_means(values, valid).tolist() == [2.0, 7.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_states_are_compared_in_float32(dtype):
    student, teacher = layers(1), layers(11)
    half = patience([s.to(dtype) for s in student], [t.to(dtype) for t in teacher], True)
    assert half.dtype == torch.float32
    exact = patience([s.to(dtype).double() for s in student], [t.to(dtype).double() for t in teacher], True)
    assert half.item() == pytest.approx(exact.item(), rel=1e-4)
    for loss in (cosine, token_mse):
        assert loss(states(3, 5, 4).to(dtype), states(3, 5, 4, seed=1).to(dtype), mask()).dtype == torch.float32


def test_large_half_precision_states_do_not_overflow():
    big = torch.full((2, 4), 6e4, dtype=torch.float16)
    assert torch.isfinite(patience([big], [-big], normalise=False))
    assert patience([big], [-big], normalise=True).item() == pytest.approx(1.0)


def energies(row: list[list[float]]) -> list[float]:
    """Mean squares of a row's tokens, as a vector of length 1."""
    q = [sum(x * x for x in token) / len(token) for token in row]
    return [x / math.sqrt(sum(y * y for y in q)) for x in q]


def test_attention_transfer_equals_the_loop():
    student, teacher = ([states(3, 5, width, seed=width + layer) for layer in range(2)] for width in (4, 8))
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        for row, count in enumerate(LENGTHS):
            pairs = zip(energies(ours[row, :count].tolist()), energies(theirs[row, :count].tolist()), strict=True)
            total += math.sqrt(sum((a - b) ** 2 for a, b in pairs))
    assert attention_transfer(student, teacher, mask()).item() == pytest.approx(total / 3, abs=1e-10)


def test_attention_transfer_by_hand():
    # squares 9, 16 and 0, 4: (9, 16) / sqrt(337) against (0, 1); one of two rows is a single token, always alike
    student = torch.tensor([[[3.0], [4.0]], [[7.0], [1.0]]])
    teacher = torch.tensor([[[0.0], [2.0]], [[1.0], [9.0]]])
    apart = math.sqrt(2 - 2 * 16 / math.sqrt(337))
    value = attention_transfer([student], [teacher], torch.tensor([[1, 1], [1, 0]]))
    assert value.item() == pytest.approx(apart / 2)


def test_attention_transfer_is_zero_for_equals_with_a_finite_gradient():
    student = states(3, 5, 4).requires_grad_(True)
    loss = attention_transfer([student], [student.detach()], mask())
    assert loss.item() == 0
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()
    assert attention_transfer([student], [3 * student.detach()], mask()).item() == pytest.approx(0, abs=1e-7)


def test_gradients_of_attention_transfer():
    teacher, longest = states(2, 4, 8, seed=1), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    student = states(2, 4, 4).requires_grad_(True)
    assert gradcheck(lambda s: attention_transfer([s], [teacher], longest), student)
