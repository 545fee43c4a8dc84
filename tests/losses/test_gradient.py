"""Losses on input gradients: GKD's card (1, 2) and AD-KD's (1, 4, 5), and equations one number at a time."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.losses.gradient import ascent, attribution, direction, log_odds, saliency, saliency_map, state_gradients

MASK = (torch.arange(6)[None] < torch.tensor([6, 3, 1, 4])[:, None]).long()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def gradients() -> tuple[torch.Tensor, torch.Tensor]:
    return drawn(4, 6, 5, seed=1), drawn(4, 6, 5, seed=2)


def test_direction_is_the_mean_of_2_minus_2_cosines(gradients):
    ours, theirs = gradients
    rows = []
    for b, length in enumerate(MASK.sum(-1).tolist()):
        cosines = []
        for i in range(length):
            g, h = ours[b, i].tolist(), theirs[b, i].tolist()
            dot = sum(x * y for x, y in zip(g, h, strict=True))
            cosines.append(dot / math.sqrt(sum(x * x for x in g)) / math.sqrt(sum(y * y for y in h)))
        rows.append(sum(2 - 2 * cosine for cosine in cosines) / length)
    assert direction(ours, theirs, MASK).item() == pytest.approx(sum(rows) / 4, rel=1e-10)


def test_direction_lies_between_0_and_4_and_knows_no_length(gradients):
    ours, theirs = gradients
    assert 0 < direction(ours, theirs, MASK) < 4
    assert direction(ours, ours, MASK).item() == 0
    assert direction(ours, -ours, MASK).item() == pytest.approx(4, abs=1e-12)
    assert direction(1e-15 * ours, ours, MASK).item() == pytest.approx(0, abs=1e-12)
    lengths = drawn(4, 6, 1, seed=3).exp()
    assert direction(lengths * ours, theirs, MASK).item() == pytest.approx(direction(ours, theirs, MASK).item())


def test_padding_counts_for_nothing_whatever_it_holds(gradients):
    ours, theirs = gradients
    beside = ours.masked_fill(MASK[..., None] == 0, 7.0)
    assert torch.equal(direction(beside, theirs, MASK), direction(ours, theirs, MASK))
    assert torch.equal(
        attribution(beside[..., 0], theirs[..., 0], MASK), attribution(ours[..., 0], theirs[..., 0], MASK)
    )


def test_a_gradient_of_zeros_stays_and_passes_nothing_on(gradients):
    """Dropout of the attention may leave a token without an effect."""
    ours, theirs = gradients[0].clone(), gradients[1]
    ours[0, 2] = 0
    ours.requires_grad_()
    value = direction(ours, theirs, MASK)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(ours.grad).all()
    assert not ours.grad[0, 2].any() and ours.grad[0, 1].any()


def test_log_odds_are_those_of_the_softmax():
    logits = drawn(7, 4)
    p = logits.softmax(-1)
    torch.testing.assert_close(log_odds(logits), (p / (1 - p)).log())
    pair = drawn(7, 2)
    torch.testing.assert_close(log_odds(pair)[:, 0], pair[:, 0] - pair[:, 1])
    assert torch.isfinite(log_odds(torch.tensor([[80.0, -80.0, 0.0]]))).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_gradients_of_log_odds_are_those_of_probability_and_log_probability_up_to_a_positive_factor(classes):
    logits = drawn(5, classes).requires_grad_()
    for other in (lambda z: z.softmax(-1), lambda z: z.log_softmax(-1)):
        for v in range(classes):
            (ours,) = state_gradients(log_odds(logits)[:, v], [logits], False)
            (theirs,) = state_gradients(other(logits)[:, v], [logits], False)
            factor = theirs / ours
            assert (factor > 0).all()
            torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))


def test_gradients_of_log_odds_do_not_vanish_where_a_model_is_sure():
    logits = torch.tensor([[60.0, -60.0, 0.0]], requires_grad=True)
    (ours,) = state_gradients(log_odds(logits).max(-1).values, [logits], False)
    (theirs,) = state_gradients(logits.softmax(-1).max(-1).values, [logits], False)
    assert theirs.abs().max() < 1e-20 and ours.abs().max() == 1


def test_what_a_signal_does_not_depend_on_has_a_gradient_of_zeros():
    one, two = drawn(3, 2).requires_grad_(), drawn(3, 2).requires_grad_()
    found = state_gradients(one.square().sum(-1), [one, two], False)
    torch.testing.assert_close(found[0], 2 * one.detach())
    assert not found[1].any() and not found[0].requires_grad


def test_saliency_is_the_length_of_the_largest_products(gradients):
    g, e = gradients
    for top in (0, 2, 5):
        kept = [
            sorted((abs(x * y) for x, y in zip(g[b, i].tolist(), e[b, i].tolist(), strict=True)), reverse=True)
            for b in range(4)
            for i in range(6)
        ]
        expected = [math.sqrt(sum(x * x for x in row[: top or None])) for row in kept]
        assert saliency(g, e, top).flatten().tolist() == pytest.approx(expected, rel=1e-10)


def test_maps_are_of_length_1_and_not_negative_and_0_on_padding(gradients):
    found = saliency_map(saliency(*gradients), MASK)
    assert (found >= 0).all() and not found[MASK == 0].any()
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4, dtype=torch.float64))


def test_attribution_is_the_mean_square_between_maps(gradients):
    ours, theirs = saliency(*gradients), saliency(gradients[0], gradients[0])
    rows = []
    for b, length in enumerate(MASK.sum(-1).tolist()):
        a, t = ours[b, :length].tolist(), theirs[b, :length].tolist()
        a, t = ([x / math.sqrt(sum(y * y for y in row)) for x in row] for row in (a, t))
        rows.append(sum((x - y) ** 2 for x, y in zip(a, t, strict=True)) / length)
    assert attribution(ours, theirs, MASK).item() == pytest.approx(sum(rows) / 4, rel=1e-10)


def test_attribution_knows_no_scale_of_a_rows_signal(gradients):
    g, e = gradients
    theirs = saliency(e, e)
    factor = drawn(4, 1, 1, seed=4).exp()
    assert attribution(saliency(factor * g, e), theirs, MASK).item() == pytest.approx(
        attribution(saliency(g, e), theirs, MASK).item(), rel=1e-12
    )


def test_attribution_is_at_most_2_over_the_tokens():
    """Unit vectors without negative entries are at most the root of 2 apart."""
    one, other, mask = torch.zeros(1, 5), torch.zeros(1, 5), torch.ones(1, 5)
    one[0, 1], other[0, 3] = 3.0, 7.0
    assert attribution(one, other, mask).item() == pytest.approx(2 / 5)
    near = drawn(1, 5).abs(), drawn(1, 5, seed=1).abs()
    assert 0 < attribution(*near, mask) < 2 / 5


def test_gradients_against_finite_differences(gradients):
    ours, theirs = gradients[0].requires_grad_(), gradients[1]
    assert gradcheck(lambda g: direction(g, theirs, MASK), ours)
    assert gradcheck(lambda g: attribution(saliency(g, theirs, 3), saliency(theirs, theirs), MASK), ours)


def test_half_precision_is_taken_in_float32(gradients):
    ours, theirs = (each.bfloat16() for each in gradients)
    assert direction(ours, theirs, MASK).dtype == attribution(ours[..., 0], theirs[..., 0], MASK).dtype == torch.float32


def test_ascent_steps_along_each_rows_gradient_by_a_share_of_its_length(gradients):
    state, slope = gradients
    slope = slope.clone()
    slope[1] = 0
    moved = ascent(state, slope, 0.3, MASK)
    for b, tokens in enumerate(MASK.sum(-1).tolist()):
        x, g = ([each for row in tensor[b, :tokens].tolist() for each in row] for tensor in (state, slope))
        length = math.sqrt(sum(each * each for each in g)) or math.inf
        far = 0.3 * math.sqrt(sum(each * each for each in x))
        expected = [v + far * w / length for v, w in zip(x, g, strict=True)]
        assert moved[b, :tokens].flatten().tolist() == pytest.approx(expected)
        assert torch.equal(moved[b, tokens:], state[b, tokens:])
    assert torch.equal(moved[1], state[1])
