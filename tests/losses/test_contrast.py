"""Losses between the rows of a batch: hand-worked values, loops in float64, and what must not change them."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.losses.contrast import (
    relational_angle,
    relational_distance,
    sample_similarity,
    similarity_preserving,
    supervised_contrast,
)

LABELS = torch.tensor([0, 1, 0, 2, 1])
T = 0.3


def states(width: int = 4, seed: int = 0, rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width: int) -> torch.Tensor:
    return torch.linalg.qr(states(width, seed=7, rows=width))[0]


# --- sample similarity ------------------------------------------------------------------------------------------------


def test_sample_similarity_by_hand():
    # width 1: c c^T is [[1, 0], [0, 0]] for the teacher, 0 everywhere for the student, whose rows are 1/2, 1/2
    student, teacher = torch.zeros(2, 1), torch.tensor([[1.0], [0.0]])
    p = math.e / (math.e + 1)
    first = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert sample_similarity(student, teacher).item() == pytest.approx(first / 2)


def relation(rows: list[list[float]]) -> list[list[float]]:
    scale = math.sqrt(len(rows[0]))
    scores = [[math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / scale) for b in rows] for a in rows]
    return [[x / sum(row) for x in row] for row in scores]


def test_sample_similarity_equals_the_loop():
    student, teacher = states(3, seed=1), states(8, seed=2)
    total = 0.0
    for q, p in zip(relation(student.tolist()), relation(teacher.tolist()), strict=True):
        assert sum(p) == pytest.approx(1.0) and len(p) == 5
        total += sum(b * (math.log(b) - math.log(a)) for a, b in zip(q, p, strict=True))
    assert sample_similarity(student, teacher).item() == pytest.approx(total / 5, rel=1e-10)


def test_sample_similarity_of_equal_states_and_of_one_row_is_zero():
    assert sample_similarity(states(), states()).item() == pytest.approx(0.0, abs=1e-12)
    assert sample_similarity(states(3, rows=1), states(8, seed=1, rows=1)).item() == 0.0


def test_sample_similarity_knows_no_order_and_no_direction_of_the_axes():
    student, teacher = states(seed=1), states(seed=2)
    value, order = sample_similarity(student, teacher), torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(sample_similarity(student[order], teacher[order]), value)
    torch.testing.assert_close(sample_similarity(student @ rotation(4), teacher), value)
    assert not torch.isclose(sample_similarity(student, 2 * teacher), value)


def test_sample_similarity_has_right_gradients():
    assert gradcheck(sample_similarity, (states(3).requires_grad_(), states(6, seed=1).requires_grad_()))


# --- supervised contrast ----------------------------------------------------------------------------------------------


def test_contrast_by_hand():
    """Two rows of two classes; each model's vectors lie on the two axes: the positive has cosine 1, the others 0."""
    axes = 5 * torch.eye(2)
    value = supervised_contrast(axes, axes, torch.tensor([0, 1]), temperature=0.5)
    assert value.item() == pytest.approx(math.log(math.exp(2) + 2) - 2)


def test_contrast_equals_the_loop():
    student, teacher = states(seed=1), states(seed=2)
    vectors = [row / row.norm() for row in torch.cat([student, teacher])]
    labels = LABELS.tolist() * 2
    total = 0.0
    for i, f in enumerate(vectors):
        others = [a for a in range(10) if a != i]
        below = sum(math.exp(float(f @ vectors[a]) / T) for a in others)
        positives = [p for p in others if labels[p] == labels[i]]
        assert (i + 5) % 10 in positives
        total += sum(math.log(below) - float(f @ vectors[p]) / T for p in positives) / len(positives)
    assert supervised_contrast(student, teacher, LABELS, T).item() == pytest.approx(total / 10, rel=1e-10)


@pytest.mark.parametrize("labels", [torch.zeros(5, dtype=torch.long), torch.arange(5), LABELS])
def test_contrast_of_vectors_that_coincide(labels):
    """Card, invariant 7: log(2B - 1), whatever the classes."""
    same = torch.ones(5, 4, dtype=torch.float64)
    assert supervised_contrast(same, 3 * same, labels, 0.07).item() == pytest.approx(math.log(9), rel=1e-10)


def test_with_distinct_labels_a_row_is_drawn_to_its_own_copy_only():
    """Card, invariant 6: it is then the usual InfoNCE with one positive."""
    student, teacher = states(seed=1), states(seed=2)
    vectors = torch.nn.functional.normalize(torch.cat([student, teacher]), dim=-1)
    scores = (vectors @ vectors.T / T).fill_diagonal_(-math.inf)
    expected = torch.nn.functional.cross_entropy(scores, (torch.arange(10) + 5) % 10)
    torch.testing.assert_close(supervised_contrast(student, teacher, torch.arange(5), T), expected)


def test_contrast_of_one_row_is_zero_and_has_no_nan_gradient():
    student = states(rows=1).requires_grad_()
    value = supervised_contrast(student, states(seed=1, rows=1), torch.tensor([1]), 0.07)
    value.backward()
    assert value.item() == 0.0 and torch.equal(student.grad, torch.zeros_like(student))


def test_contrast_takes_equal_scores_for_a_class():
    scores = torch.tensor([0.5, 3.25, 0.5, 4.0, 3.25])
    student, teacher = states(seed=1), states(seed=2)
    value = supervised_contrast(student, teacher, LABELS, T)
    assert torch.equal(supervised_contrast(student, teacher, scores, T), value)


def test_contrast_knows_no_order_no_length_and_no_sides():
    student, teacher = states(seed=1), states(seed=2)
    value, order = supervised_contrast(student, teacher, LABELS, T), torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(supervised_contrast(student[order], teacher[order], LABELS[order], T), value)
    torch.testing.assert_close(supervised_contrast(9 * student, 0.1 * teacher, LABELS, T), value)
    torch.testing.assert_close(supervised_contrast(teacher, student, LABELS, T), value)
    torch.testing.assert_close(supervised_contrast(student @ rotation(4), teacher @ rotation(4), LABELS, T), value)


def test_contrast_has_right_gradients():
    inputs = (states(seed=1).requires_grad_(), states(seed=2).requires_grad_())
    assert gradcheck(lambda s, t: supervised_contrast(s, t, LABELS, T), inputs)


def test_contrast_at_a_low_temperature_and_on_zeros_stays_finite():
    student = torch.zeros(5, 4, requires_grad=True)
    supervised_contrast(student, states(seed=2).float(), LABELS, 0.01).backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_states_are_compared_in_float32(dtype):
    student, teacher = states(seed=1).to(dtype), states(seed=2).to(dtype)
    for loss in (sample_similarity, lambda s, t: supervised_contrast(s, t, LABELS, T)):
        value = loss(student, teacher)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(loss(student.double(), teacher.double()).item(), rel=1e-4)


# --- similarity preserving, relational distance and angle -------------------------------------------------------------

RELATIONS = (similarity_preserving, relational_distance, relational_angle)


def length(x: list[float]) -> float:
    return math.sqrt(sum(a * a for a in x))


def dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def less(x: list[float], y: list[float]) -> list[float]:
    return [a - b for a, b in zip(x, y, strict=True)]


def huber(gap: float) -> float:
    return gap * gap / 2 if abs(gap) < 1 else abs(gap) - 0.5


def similarity_loop(student: list[list[float]], teacher: list[list[float]]) -> float:
    total, rows = 0.0, len(student)
    for i in range(rows):
        ours, theirs = ([dot(f[i], other) for other in f] for f in (student, teacher))
        total += sum((a / length(ours) - b / length(theirs)) ** 2 for a, b in zip(ours, theirs, strict=True))
    return total / rows**2


def distance_loop(student: list[list[float]], teacher: list[list[float]]) -> float:
    pairs = [(i, j) for i in range(len(student)) for j in range(len(student)) if i != j]
    ours, theirs = ([length(less(f[i], f[j])) for i, j in pairs] for f in (student, teacher))
    mus = sum(ours) / len(pairs), sum(theirs) / len(pairs)
    return sum(huber(a / mus[0] - b / mus[1]) for a, b in zip(ours, theirs, strict=True)) / len(pairs)


def angle_loop(student: list[list[float]], teacher: list[list[float]]) -> float:
    every = range(len(student))
    triplets = [(i, j, k) for i in every for j in every for k in every if len({i, j, k}) == 3]

    def cos(f: list[list[float]], i: int, j: int, k: int) -> float:
        one, two = less(f[i], f[j]), less(f[k], f[j])
        return dot(one, two) / (length(one) * length(two))

    return sum(huber(cos(student, *each) - cos(teacher, *each)) for each in triplets) / len(triplets)


def relation_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A narrow student and a wide teacher."""
    return states(3, seed=1), states(6, seed=2)


@pytest.mark.parametrize(
    ("loss", "loop"), list(zip(RELATIONS, (similarity_loop, distance_loop, angle_loop), strict=True))
)
def test_relations_equal_the_loop(loss, loop):
    student, teacher = relation_pair()
    for factor in (1.0, 30.0):  # the second also reaches the straight part of Huber's function
        spread = teacher * torch.linspace(1, factor, len(teacher), dtype=torch.float64)[:, None]
        assert loss(student, spread).item() == pytest.approx(loop(student.tolist(), spread.tolist()), abs=1e-10)


def test_relations_by_hand():
    # the teacher's rows lie on a line, 0, 1 and 3: distances 1, 2, 3, mean 2; the student's are all as far apart
    teacher, student = torch.tensor([[0.0], [1.0], [3.0]]), torch.eye(3)
    assert relational_distance(student, teacher).item() == pytest.approx((0.125 + 0 + 0.125) / 3)
    # angles of the line are 180, 0 and 0 degrees, those of the student 60
    assert relational_angle(student, teacher).item() == pytest.approx((huber(1.5) + 2 * huber(0.5)) / 3)
    # equal rows are all alike (1, 1) / sqrt(2), orthogonal ones like themselves alone
    alike = (1 - 0.5**0.5) ** 2 + 0.5
    assert similarity_preserving(torch.ones(2, 1), torch.eye(2)).item() == pytest.approx(2 * alike / 4)


@pytest.mark.parametrize("loss", RELATIONS)
def test_relations_are_blind_to_rotation_and_scale_and_zero_for_equals(loss):
    student, teacher = relation_pair()
    turned = 3.0 * student @ rotation(3)
    assert loss(turned, teacher).item() == pytest.approx(loss(student, teacher).item(), abs=1e-10)
    assert loss(student, turned).item() == pytest.approx(0, abs=1e-12) and loss(student, teacher).item() > 1e-3


@pytest.mark.parametrize("loss", RELATIONS)
def test_gradients_of_relations(loss):
    student, teacher = relation_pair()
    assert gradcheck(lambda s: loss(s, teacher), student.requires_grad_(True))


@pytest.mark.parametrize("loss", RELATIONS)
@pytest.mark.parametrize("rows", [1, 2])
def test_small_batches_and_rows_that_coincide_have_finite_gradients(loss, rows):
    few = states(seed=3, rows=rows).requires_grad_(True)
    value = loss(few, states(6, seed=4, rows=rows))
    assert rows > 1 or value.item() == 0
    twins = torch.cat([states(rows=3), states(rows=3)[:1]]).requires_grad_(True)
    for each, at in ((value, few), (loss(twins, states(6, seed=4, rows=4)), twins)):
        assert torch.isfinite(torch.autograd.grad(each, at)[0]).all()
