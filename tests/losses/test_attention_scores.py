import pytest
import torch
from torch.autograd import gradcheck

from kdcore.losses.attention import score_mse, score_rows

LENGTHS = [4, 3, 1]
HEADS, TOKENS = 2, 4


def scores(seed: int, pairs: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(pairs, len(LENGTHS), HEADS, TOKENS, TOKENS, generator=generator, dtype=torch.float64))


def mask() -> torch.Tensor:
    return (torch.arange(TOKENS)[None] < torch.tensor(LENGTHS)[:, None]).long()


def padding() -> torch.Tensor:
    """Where the token that looks, or the one that is looked at, is padding: [batch, 1, tokens, tokens]."""
    valid = mask().bool()
    return ~(valid[:, None, :, None] & valid[:, None, None, :])


def test_score_mse_by_hand():
    student = torch.zeros(2, 1, 2, 2)
    teacher = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0, 99.0], [99.0, 99.0]]]])
    valid = torch.tensor([[1, 1], [1, 0]])
    # row 1: (1 + 4 + 9 + 16) / 4; row 2 has one token: 25
    assert score_mse([student], [teacher], valid).item() == pytest.approx((7.5 + 25) / 2)
    # two pairs add up, two heads are averaged
    assert score_mse([student] * 2, [teacher] * 2, valid).item() == pytest.approx(7.5 + 25)
    heads = [torch.cat([teacher, student], dim=1)]
    assert score_mse([student.expand(-1, 2, -1, -1)], heads, valid).item() == pytest.approx((7.5 + 25) / 4)


def test_score_mse_equals_the_loop():
    student, teacher = scores(1), scores(2)
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        for b, length in enumerate(LENGTHS):
            apart = [
                (ours[b, a, i, j].item() - theirs[b, a, i, j].item()) ** 2
                for a in range(HEADS)
                for i in range(length)
                for j in range(length)
            ]
            total += sum(apart) / len(apart) / len(LENGTHS)
    assert score_mse(student, teacher, mask()).item() == pytest.approx(total, rel=1e-10)


def test_score_mse_is_zero_on_equal_scores_and_has_right_gradients():
    student, teacher = scores(1), scores(2)
    assert score_mse(student, student, mask()).item() == 0.0
    assert gradcheck(lambda a, b: score_mse([a, b], teacher, mask()), tuple(s.requires_grad_() for s in student))


def test_score_rows_have_the_mean_of_score_mse():
    (student, _), (teacher, _) = scores(1), scores(2)
    rows = score_rows(student, teacher, mask())
    assert rows.shape == (3,) and rows.mean().item() == pytest.approx(score_mse([student], [teacher], mask()).item())
    alone = [score_rows(student[b : b + 1], teacher[b : b + 1], mask()[b : b + 1]).item() for b in range(3)]
    assert rows.tolist() == pytest.approx(alone)
    with pytest.raises(ValueError, match="attention heads"):
        score_rows(student[:, :1], teacher, mask())


@pytest.mark.parametrize("value", [-1e4, -1e9, float("nan")])
def test_padding_counts_for_nothing_whatever_it_holds(value):
    """So it does not matter how a mask was written into the scores."""
    student, teacher = scores(1), scores(2)
    expected = score_mse(student, teacher, mask())
    masked = [tensor.masked_fill(padding(), value) for tensor in student]
    assert torch.equal(score_mse(masked, teacher, mask()), expected)
    assert torch.equal(score_mse(student, [t.masked_fill(padding(), value) for t in teacher], mask()), expected)


def test_gradient_reaches_scores_between_valid_tokens_only():
    student = [tensor.requires_grad_() for tensor in scores(1)]
    for gradient in torch.autograd.grad(score_mse(student, scores(2), mask()), student):
        assert torch.equal(gradient == 0, padding().expand_as(gradient))


def test_raw_scores_are_compared_and_not_what_a_softmax_makes_of_them():
    student, teacher = scores(1), scores(2)
    shifted = [tensor.clone() for tensor in student]
    shifted[0][0, 0, 1] += 3.0
    torch.testing.assert_close(shifted[0].softmax(-1), student[0].softmax(-1))
    assert abs(score_mse(shifted, teacher, mask()).item() - score_mse(student, teacher, mask()).item()) > 1e-3


def test_rows_weigh_the_same_however_long():
    student = [torch.zeros(2, 1, 4, 4)]
    teacher = [torch.stack([torch.zeros(1, 4, 4), torch.full((1, 4, 4), 2.0)])]
    valid = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    assert score_mse(student, teacher, valid).item() == pytest.approx(4.0 / 2)


def test_a_mean_over_padding_too_is_a_share_of_it():
    """The conversion in TinyBERT's `departs`: (n / L)^2 of a row of n tokens, where nothing stands at padding."""
    student, teacher = (
        [s.masked_fill(padding(), 0) for s in scores(1)],
        [t.masked_fill(padding(), 0) for t in scores(2)],
    )
    for b, length in enumerate(LENGTHS):
        over_all = sum((s[b] - t[b]).square().mean() for s, t in zip(student, teacher, strict=True))
        ours = score_mse([s[b : b + 1] for s in student], [t[b : b + 1] for t in teacher], mask()[b : b + 1])
        assert over_all.item() == pytest.approx((length / TOKENS) ** 2 * ours.item(), rel=1e-10)


def test_what_cannot_be_paired_is_an_error():
    with pytest.raises(ValueError, match="0 student layers"):
        score_mse([], [], mask())
    with pytest.raises(ValueError, match="2 student layers cannot be paired with 1"):
        score_mse(scores(1), scores(2, pairs=1), mask())
    one_head = [tensor[:, :1] for tensor in scores(2)]  # would be broadcast in silence
    with pytest.raises(ValueError, match="2 attention heads and the teacher 1"):
        score_mse(scores(1), one_head, mask())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores_are_compared_in_float32(dtype):
    student, teacher = ([tensor.to(dtype) for tensor in scores(seed)] for seed in (1, 2))
    half = score_mse(student, teacher, mask())
    exact = score_mse([s.double() for s in student], [t.double() for t in teacher], mask())
    assert half.dtype == torch.float32 and half.item() == pytest.approx(exact.item(), rel=1e-5)
    large = [torch.full((1, 1, 1, 1), 6e4, dtype=dtype)]
    assert torch.isfinite(score_mse(large, [-large[0]], torch.ones(1, 1)))
