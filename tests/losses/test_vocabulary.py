"""Losses on scores over the vocabulary: by hand, by loops in float64, and what they must not depend on."""

import math

import pytest
import torch

from kdcore.losses.soft_targets import soft_targets
from kdcore.losses.vocabulary import IGNORE_INDEX, hidden_places, hidden_words, soft_words

ROWS, TOKENS, WORDS = 3, 4, 7
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])


def scores(seed: int, grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, TOKENS, WORDS, generator=generator, dtype=torch.float64).requires_grad_(grad)


def asked() -> torch.Tensor:
    """Two words of the first row, one of the second, none of the third."""
    words = torch.full((ROWS, TOKENS), IGNORE_INDEX)
    words[0, 1], words[0, 3], words[1, 0] = 5, 0, 2
    return words


def test_soft_words_by_hand():
    """(3/4, 1/4) against (1/2, 1/2) at one token, and no difference at the other: half of 3/4 log 3/2 + 1/4 log 1/2."""
    teacher = torch.tensor([[[math.log(3.0), 0.0], [1.0, 2.0]]])
    student = torch.tensor([[[0.0, 0.0], [5.0, 6.0]]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert soft_words(student, teacher, torch.ones(1, 2), 1.0).tolist() == [pytest.approx(expected)]


def test_hidden_words_by_hand():
    """A word of probability 1/4 in the first of two places, nothing asked in the second, and a row without a place."""
    student = torch.tensor([[[0.0, math.log(3.0)], [9.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]])
    words = torch.tensor([[0, IGNORE_INDEX], [IGNORE_INDEX, IGNORE_INDEX]])
    assert hidden_words(student, words).tolist() == [pytest.approx(math.log(4.0)), 0.0]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_words_equal_the_equation(temperature):
    student, teacher = scores(0), scores(1)
    for row, got in enumerate(soft_words(student, teacher, MASK, temperature).tolist()):
        length, total = int(MASK[row].sum()), 0.0
        for token in range(length):
            p, q = (x[row, token].div(temperature).softmax(0).tolist() for x in (teacher, student))
            total += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / length
        assert got == pytest.approx(total, rel=1e-10)


def test_hidden_words_equal_the_equation():
    student, words = scores(0), asked()
    for row, got in enumerate(hidden_words(student, words).tolist()):
        places = [at for at in range(TOKENS) if words[row, at] >= 0]
        each = [-math.log(student[row, at].softmax(0)[words[row, at]]) for at in places]
        assert got == pytest.approx(sum(each) / max(1, len(each)), rel=1e-10)


def test_gradients():
    student, teacher = scores(0, grad=True), scores(1)
    assert torch.autograd.gradcheck(lambda s: soft_words(s, teacher, MASK, 2.0), student)
    assert torch.autograd.gradcheck(lambda s: hidden_words(s, asked()), student)


def test_one_token_a_row_is_the_soft_targets_loss():
    student, teacher = scores(0)[:, :1], scores(1)[:, :1]
    expected = soft_targets(student[:, 0], teacher[:, 0], 3.0)
    assert soft_words(student, teacher, torch.ones(ROWS, 1), 3.0).mean().item() == pytest.approx(expected.item())


def test_equal_scores_and_a_constant_give_nothing():
    teacher = scores(1)
    got = soft_words(teacher + 4.0, teacher, MASK, 2.0)
    torch.testing.assert_close(got, torch.zeros_like(got))


def test_what_stands_at_padding_changes_nothing():
    padding = (MASK == 0)[..., None]
    student, teacher = scores(0), scores(1)
    other = soft_words(student.masked_fill(padding, 77.0), teacher.masked_fill(padding, -5.0), MASK, 2.0)
    assert torch.equal(other, soft_words(student, teacher, MASK, 2.0))
    unasked = (asked() == IGNORE_INDEX)[..., None]
    assert torch.equal(hidden_words(student.masked_fill(unasked, 7.0), asked()), hidden_words(student, asked()))


def test_rows_are_taken_each_for_itself():
    student, teacher, words = scores(0), scores(1), asked()
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone = soft_words(student[one], teacher[one], MASK[one], 2.0)
        torch.testing.assert_close(alone[0], soft_words(student, teacher, MASK, 2.0)[row])
        torch.testing.assert_close(hidden_words(student[one], words[one])[0], hidden_words(student, words)[row])


def test_half_precision_gives_float32():
    student, teacher = scores(0).bfloat16(), scores(1).bfloat16()
    assert soft_words(student, teacher, MASK, 2.0).dtype == hidden_words(student, asked()).dtype == torch.float32


def test_hidden_places_are_hidden_words_without_the_other_scores():
    for words in (asked(), torch.full((ROWS, TOKENS), IGNORE_INDEX)):
        student = scores(1, grad=True)
        found, expected = hidden_places(student[words != IGNORE_INDEX], words), hidden_words(student, words)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        weights = torch.tensor([1.0, 2.0, 3.0])
        ours, theirs = (torch.autograd.grad((loss * weights).sum(), student)[0] for loss in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)
