"""Losses on relations: hand-worked values, loops in float64, masking, and what rotation and width must not change."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.losses.relation import (
    attention_divergence,
    flow_mse,
    layer_flow,
    log_relations,
    merge_heads,
    token_relations,
)

LENGTHS = [5, 3, 1]
WIDTH, NARROW = 8, 4


def states(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask() -> torch.Tensor:
    return (torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]).long()


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A narrow student and a wide teacher."""
    return states(3, 5, NARROW, seed=1), states(3, 5, WIDTH, seed=2)


def attentions(seed: int, heads: int = 2) -> torch.Tensor:
    """What a model's attention looks like: nothing goes to padding; padded tokens attend, too."""
    return states(3, heads, 5, 5, seed=seed).masked_fill(mask()[:, None, None, :] == 0, -torch.inf).softmax(-1)


def relation(vectors: list[list[float]]) -> list[list[float]]:
    """softmax(X X^T / sqrt(width)) of one block [tokens][width], by its formula."""
    rows = []
    for x in vectors:
        weights = [math.exp(sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(len(x))) for y in vectors]
        rows.append([weight / sum(weights) for weight in weights])
    return rows


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def block(tokens: torch.Tensor, head: int, heads: int) -> list[list[float]]:
    width = tokens.shape[-1] // heads
    return tokens[:, head * width : (head + 1) * width].tolist()


def loop(student: torch.Tensor, teacher: torch.Tensor, heads: int) -> float:
    """Sequence by sequence, on its own tokens only."""
    total = 0.0
    for row, length in enumerate(LENGTHS):
        apart = 0.0
        for head in range(heads):
            p, q = (relation(block(model[row, :length], head, heads)) for model in (teacher, student))
            apart += sum(divergence(p[i], q[i]) for i in range(length))
        total += apart / (heads * length)
    return total / len(LENGTHS)


# --- self-relations ---------------------------------------------------------------------------------------------------


def test_token_relations_by_hand():
    """Orthogonal tokens of length 2 at width 4: scores are 4 / 2 = 2 on the diagonal and 0 off it."""
    teacher = 2 * torch.eye(4)[None, :2]
    student = torch.zeros(1, 2, 4)  # relates everything evenly
    p = math.exp(2) / (math.exp(2) + 1)
    expected = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert token_relations(student, teacher, torch.ones(1, 2), heads=1).item() == pytest.approx(expected)
    # two blocks of width 2: block 1 has scores 4 / sqrt(2), block 2 is zero for both
    p = math.exp(4 / math.sqrt(2)) / (math.exp(4 / math.sqrt(2)) + 1)
    expected = (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)) / 2
    assert token_relations(student, teacher, torch.ones(1, 2), heads=2).item() == pytest.approx(expected)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_token_relations_equal_the_loop(heads):
    student, teacher = pair()
    assert token_relations(student, teacher, mask(), heads).item() == pytest.approx(
        loop(student, teacher, heads), rel=1e-10
    )


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("model", pair(), ids=["narrow", "wide"])
def test_relations_are_distributions_over_the_valid_tokens(model, heads):
    relations = log_relations(model, mask(), heads).exp()
    assert relations.shape == (3, heads, 5, 5)
    torch.testing.assert_close(relations.sum(-1), torch.ones(3, heads, 5, dtype=torch.float64))
    assert (relations.masked_select(mask()[:, None, None, :] == 0) == 0).all()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_equal_states_have_equal_relations(heads):
    student, teacher = pair()
    assert token_relations(teacher, teacher, mask(), heads).item() == 0.0
    assert token_relations(student, teacher, mask(), heads).item() > 0


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_blocks_may_be_rotated(heads):
    """Right-multiplying each block by an orthogonal matrix leaves its products as they are."""
    student, teacher = pair()
    turns = torch.linalg.qr(states(heads, WIDTH // heads, WIDTH // heads, seed=7))[0]
    turned = teacher @ torch.block_diag(*turns)
    assert not torch.allclose(turned, teacher)
    value = token_relations(student, teacher, mask(), heads)
    torch.testing.assert_close(token_relations(student, turned, mask(), heads), value, rtol=1e-10, atol=0)


def test_blocks_are_contiguous():
    student, teacher = pair()
    first, second = (student[..., :2], teacher[..., :4]), (student[..., 2:], teacher[..., 4:])
    halves = [token_relations(*half, mask(), 1) for half in (first, second)]
    torch.testing.assert_close(token_relations(student, teacher, mask(), 2), sum(halves) / 2)
    interleaved = teacher.unflatten(-1, (2, 4)).transpose(-1, -2).flatten(-2)
    assert not torch.isclose(token_relations(student, interleaved, mask(), 2), sum(halves) / 2)


def test_relations_have_a_direction_and_a_scale():
    """KL(teacher || student): the other way round is another number; scaling the states sharpens the relations."""
    student, teacher = states(3, 5, WIDTH, seed=1), states(3, 5, WIDTH, seed=2)
    value = token_relations(student, teacher, mask(), 2)
    assert not torch.isclose(token_relations(teacher, student, mask(), 2), value, rtol=1e-3)
    assert not torch.isclose(token_relations(student, 2 * teacher, mask(), 2), value, rtol=1e-3)


@pytest.mark.parametrize("junk", [1e6, float("inf"), float("nan")])
def test_padding_is_neither_related_nor_related_to(junk):
    student, teacher = (model.requires_grad_() for model in pair())
    padding = mask()[..., None] == 0
    value = token_relations(student, teacher, mask(), 2)
    noisy = token_relations(student.masked_fill(padding, junk), teacher.masked_fill(padding, junk), mask(), 2)
    torch.testing.assert_close(noisy, value, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(noisy, student)
    assert torch.isfinite(gradient).all() and (gradient[mask() == 0] == 0).all()
    cut = token_relations(student[1:2, :3], teacher[1:2, :3], torch.ones(1, 3), 2)
    torch.testing.assert_close(cut, token_relations(student[1:2], teacher[1:2], mask()[1:2], 2))


def test_rows_weigh_the_same_whatever_their_length():
    student, teacher = pair()
    alone = [token_relations(student[[row]], teacher[[row]], mask()[[row]], 2) for row in range(3)]
    torch.testing.assert_close(token_relations(student, teacher, mask(), 2), sum(alone) / 3)
    twice = token_relations(student[[0, 0]], teacher[[0, 0]], mask()[[0, 0]], 2)
    torch.testing.assert_close(twice, alone[0])
    assert alone[2] == 0, "a single token relates to itself alone"


def test_a_row_of_padding_alone_counts_as_zero():
    student, teacher = (model[:2].clone().requires_grad_() for model in pair())
    valid = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    value = token_relations(student, teacher, valid, 2)
    torch.testing.assert_close(value, token_relations(student[:1], teacher[:1], valid[:1], 2) / 2)
    assert torch.isfinite(torch.autograd.grad(value, student)[0]).all()


@pytest.mark.parametrize("heads", [1, 2])
def test_gradients_of_relations(heads):
    student, teacher = pair()
    assert gradcheck(lambda s: token_relations(s, teacher, mask(), heads), student.requires_grad_())


@pytest.mark.parametrize("heads", [0, -1, 3, 8])
def test_heads_must_divide_both_widths(heads):
    with pytest.raises(ValueError, match=f"{heads} relation heads do not divide a width of {NARROW}"):
        token_relations(*pair(), mask(), heads)
    with pytest.raises(ValueError, match="do not divide"):
        token_relations(*pair()[::-1], mask(), heads)


def test_half_precision_states_are_related_in_float32():
    student, teacher = (model.bfloat16() for model in pair())
    value = token_relations(student, teacher, mask(), 2)
    assert value.dtype == torch.float32
    exact = token_relations(student.double(), teacher.double(), mask(), 2)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)


def test_far_apart_states_stay_finite():
    student = (1e3 * pair()[0]).float().requires_grad_()
    value = token_relations(student, 1e3 * pair()[1].float(), mask(), 2)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


def test_merged_heads_stand_side_by_side():
    flat = states(3, 5, WIDTH)
    assert torch.equal(merge_heads(flat.view(3, 5, 4, 2).transpose(1, 2)), flat)


# --- attention --------------------------------------------------------------------------------------------------------


def test_attention_divergence_by_hand():
    student = torch.tensor([[[[0.5, 0.5], [0.5, 0.5]]]])
    teacher = torch.tensor([[[[1.0, 0.0], [0.25, 0.75]]]])
    second = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    valid = torch.ones(1, 2)
    assert attention_divergence(student, teacher, valid).item() == pytest.approx((math.log(2) + second) / 2)


def test_attention_divergence_equals_the_loop():
    student, teacher = attentions(1), attentions(2)
    total = 0.0
    for row, length in enumerate(LENGTHS):
        each = [divergence(teacher[row, a, i, :length].tolist(), student[row, a, i, :length].tolist())
                for a in range(2) for i in range(length)]  # fmt: skip
        total += sum(each) / len(each)
    assert attention_divergence(student, teacher, mask()).item() == pytest.approx(total / 3, rel=1e-10)


def test_attention_divergence_is_zero_on_equals_and_has_a_direction():
    student, teacher = attentions(1), attentions(2)
    assert attention_divergence(student, student, mask()).item() == pytest.approx(0.0, abs=1e-15)
    one, other = attention_divergence(student, teacher, mask()), attention_divergence(teacher, student, mask())
    assert one > 0 and not torch.isclose(one, other, rtol=1e-3)


def test_attention_is_the_relation_of_tokens_where_queries_are_keys():
    """Two losses, one measure: attention with Q = K = X is X's self-relation."""
    student, teacher = pair()

    def attention(x: torch.Tensor) -> torch.Tensor:
        blocks = x.unflatten(-1, (2, -1)).transpose(1, 2)
        scores = blocks @ blocks.transpose(-1, -2) / math.sqrt(blocks.shape[-1])
        return scores.masked_fill(mask()[:, None, None, :] == 0, -torch.inf).softmax(-1)

    value = attention_divergence(attention(student), attention(teacher), mask())
    torch.testing.assert_close(value, token_relations(student, teacher, mask(), 2), rtol=1e-10, atol=0)


@pytest.mark.parametrize("junk", [0.3, float("nan")])
def test_attention_of_and_to_padding_counts_for_nothing(junk):
    student, teacher = attentions(1).requires_grad_(), attentions(2)
    valid = mask().bool()
    padding = ~(valid[:, None, :, None] & valid[:, None, None, :])
    value = attention_divergence(student, teacher, mask())
    noisy = attention_divergence(student.masked_fill(padding, junk), teacher.masked_fill(padding, junk), mask())
    torch.testing.assert_close(noisy, value, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(gradient).all() and (gradient[padding.expand_as(gradient)] == 0).all()


def test_rows_of_attention_weigh_the_same():
    student, teacher = attentions(1), attentions(2)
    alone = [attention_divergence(student[[row]], teacher[[row]], mask()[[row]]) for row in range(3)]
    torch.testing.assert_close(attention_divergence(student, teacher, mask()), sum(alone) / 3)


def test_attention_gradients_through_the_softmax():
    teacher, padding = attentions(2), mask()[:, None, None, :] == 0

    def loss(scores: torch.Tensor) -> torch.Tensor:
        return attention_divergence(scores.masked_fill(padding, -1e9).softmax(-1), teacher, mask())

    assert gradcheck(loss, states(3, 2, 5, 5, seed=1).requires_grad_())


def test_attention_too_small_for_its_type_stays_finite():
    scores = torch.tensor([[[[0.0, -200.0], [0.0, 0.0]]]], requires_grad=True)
    value = attention_divergence(scores.softmax(-1), torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 2))
    value.backward()
    assert torch.isfinite(value) and value > 10 and torch.isfinite(scores.grad).all()


def test_different_numbers_of_heads_are_an_error():
    with pytest.raises(ValueError, match="student has 3 attention heads and the teacher 2"):
        attention_divergence(attentions(1, heads=3), attentions(2), mask())


def test_half_precision_attention_is_compared_in_float32():
    value = attention_divergence(attentions(1).bfloat16(), attentions(2).bfloat16(), mask())
    assert value.dtype == torch.float32 and torch.isfinite(value)


def flow_loop(first: torch.Tensor, last: torch.Tensor) -> list[list[list[float]]]:
    """Row by row: sum over tokens of one layer's number times the other's, over the number of tokens."""
    flows = []
    for row, length in enumerate(LENGTHS):
        p, q = first[row, :length].tolist(), last[row, :length].tolist()
        flows.append([
            [sum(p[t][i] * q[t][j] for t in range(length)) / length for j in range(len(q[0]))] for i in range(len(p[0]))
        ])  # fmt: skip
    return flows


def test_a_flow_is_that_of_the_formula_whatever_stands_in_padding():
    first, last = states(3, 5, NARROW, seed=3), states(3, 5, WIDTH, seed=4)
    expected = torch.tensor(flow_loop(first, last), dtype=torch.float64)
    assert expected.shape == (3, NARROW, WIDTH)
    torch.testing.assert_close(layer_flow(first, last, mask()), expected, rtol=1e-10, atol=1e-12)
    padding = (mask() == 0)[:, :, None]
    filled = [each.masked_fill(padding, torch.nan) for each in (first, last)]
    torch.testing.assert_close(layer_flow(*filled, mask()), expected, rtol=1e-10, atol=1e-12)


def test_flows_are_compared_entry_by_entry():
    ours, theirs = ([states(3, 5, NARROW, seed=seed) for seed in seeds] for seeds in ((1, 2), (3, 4)))
    gap = torch.tensor(flow_loop(*ours)) - torch.tensor(flow_loop(*theirs))
    expected = sum(float(each) ** 2 for each in gap.flatten()) / gap.numel()
    assert flow_mse(*ours, *theirs, mask()).item() == pytest.approx(expected, rel=1e-6)
    assert flow_mse(*ours, *ours, mask()).item() == 0.0
    leaves = [each.requires_grad_() for each in ours]
    assert gradcheck(lambda *said: flow_mse(*said, *theirs, mask()), leaves)
    assert flow_mse(*(each.bfloat16() for each in (*ours, *theirs)), mask()).dtype == torch.float32
