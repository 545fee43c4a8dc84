"""Averaged KD: the weighted mean of the teachers' answers, and what it shares with KD and with Stochastic KD."""

import math

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import METHODS
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"weights": "rank", "hard_label_weight": 0.5}, {"weights": "softmax", "temperature": 4.0})
)

NAMES = ["small", "medium", "large"]
SCORES = {"small": 0.70, "medium": 0.75, "large": 0.90}


def made_of(world, weights="equal", scores=SCORES, **options):
    return world("wkd", {"weights": weights, **options}, teachers=list(scores), scores=scores)


def by_hand(student, teachers, weights, labels, hard, t):
    """(1 - w) T^2 KL(sum_k a_k p_k || student) + w CE, one number at a time."""
    total = 0.0
    for b, row in enumerate(student.tolist()):
        q_1, q_t = softmax(row, 1.0), softmax(row, t)
        each = [softmax(teacher[b].tolist(), t) for teacher in teachers]
        p = [sum(a * pk for a, pk in zip(weights, column, strict=True)) for column in zip(*each, strict=True)]
        kl = sum(pc * math.log(pc / qc) for pc, qc in zip(p, q_t, strict=True))
        total += (1 - hard) * t * t * kl - hard * math.log(q_1[labels[b]])
    return total / len(student)


def softmax(row, t):
    total = sum(math.exp(z / t) for z in row)
    return [math.exp(z / t) / total for z in row]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("equal", [1 / 3] * 3), ("rank", [1 / 6, 2 / 6, 3 / 6]), ("softmax", None)],
)
def test_equals_the_equation(world, weights, expected):
    made = made_of(world, weights, temperature=2.0, hard_label_weight=0.25)
    if expected is None:
        raw = [math.exp(score / 0.05) for score in SCORES.values()]
        expected = [value / sum(raw) for value in raw]
    assert list(made.method.weights.values()) == pytest.approx(expected)
    step = made.step()
    said = [step.teachers[name].logits for name in NAMES]
    total = by_hand(step.student.logits, said, expected, step.batch.labels, 0.25, 2.0)
    assert made.loss(step).item() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("weights", ["equal", "rank", "softmax"])
def test_weights_are_shares_in_the_order_of_the_scores(world, weights):
    given = made_of(world, weights).method.weights
    assert list(given) == NAMES and all(weight > 0 for weight in given.values())
    assert abs(sum(given.values()) - 1) < 1e-12
    assert list(given.values()) == sorted(given.values())


def test_every_teacher_answers_every_row(world):
    step = made_of(world).step()
    assert list(step.rows) == NAMES and all(rows is None for rows in step.rows.values())


def test_scores_are_averaged_for_regression(world):
    made = world("wkd", {"weights": "rank"}, teachers=NAMES, scores=SCORES, regression=True)
    step = made.step()
    ours = step.student.logits[:, 0].tolist()
    said = [step.teachers[name].logits[:, 0].tolist() for name in NAMES]
    mean = [sum(a * t for a, t in zip((1 / 6, 2 / 6, 3 / 6), row, strict=True)) for row in zip(*said, strict=True)]
    expected = sum((s - m) ** 2 for s, m in zip(ours, mean, strict=True)) / len(ours)
    assert made.loss(step).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("regression", [False, True])
def test_equal_weights_are_kd_with_several_teachers(world, regression):
    made = world("wkd", {"temperature": 3.0}, teachers=NAMES, regression=regression)
    kd = world("kd", {"alpha": 1.0, "temperature": 3.0}, teachers=NAMES, regression=regression)
    step = made.step()
    assert made.loss(step).item() == pytest.approx(kd.loss(step).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("weights", "draw"),
    [
        ("equal", {}),
        ("rank", {"sampling": "teacher-rank"}),
        ("softmax", {"sampling": "teacher-rank", "mapping": "softmax"}),
    ],
)
def test_its_gradient_is_what_stochastic_kd_expects(world, replaced, weights, draw):
    """Invariant 6 of Stochastic KD: the mean gradient over its draws is that of the averaged probabilities."""
    made = made_of(world, weights, temperature=2.0)
    skd = world("skd", {**draw, "temperature": 2.0}, teachers=NAMES, scores=SCORES)
    assert skd.method.probabilities() == pytest.approx(made.method.weights)
    step = made.step()
    logits = step.student.logits
    mean = torch.zeros_like(logits)
    for name, chance in skd.method.probabilities().items():
        drawn = replaced(step, teachers={name: step.teachers[name]}, rows={name: None})
        mean += chance * torch.autograd.grad(skd.loss(drawn), logits)[0]
    torch.testing.assert_close(torch.autograd.grad(made.loss(step), logits)[0], mean, rtol=1e-9, atol=1e-12)


def test_teachers_that_agree_are_one_teacher(world, replaced):
    made = made_of(world, "rank")
    step = made.step()
    one = step.teachers["large"]
    same = replaced(step, teachers=dict.fromkeys(NAMES, one))
    kd = world("kd", {"alpha": 1.0, "temperature": 1.0}, teachers=["large"])
    alone = replaced(step, teachers={"large": one}, rows={"large": None})
    assert made.loss(same).item() == pytest.approx(kd.loss(alone).item(), rel=1e-12)
    own = replaced(step, teachers=dict.fromkeys(NAMES, step.student))
    assert made.terms(own)["soft"] == pytest.approx(0.0, abs=1e-12)


def test_order_of_teachers_does_not_matter(world):
    one = made_of(world, "rank")
    other = made_of(world, "rank", dict(reversed(SCORES.items())))
    step = one.step()
    assert other.loss(step).item() == pytest.approx(one.loss(step).item(), rel=1e-12)


def test_hard_labels_have_no_effect_by_default(world, replaced):
    made = made_of(world)
    step = made.step()
    other = type(step.batch)(step.batch.ids, (step.batch.labels + 1) % 3, step.batch.encodings)
    assert torch.equal(made.loss(replaced(step, batch=other)), made.loss(step))


def test_a_missing_score_is_said_at_once_where_it_is_needed(world):
    scores = {**SCORES, "medium": None}
    made_of(world, "equal", scores)
    with pytest.raises(UserError, match=r"options\.weights.*rank needs a score of medium"):
        made_of(world, "rank", scores)


def test_weights_are_noted(world):
    assert made_of(world, "rank").method.notes() == pytest.approx(
        {"weight/small": 1 / 6, "weight/medium": 2 / 6, "weight/large": 3 / 6}
    )


def test_takes_at_least_two_teachers():
    assert METHODS["wkd"].teachers == (2, 12)
