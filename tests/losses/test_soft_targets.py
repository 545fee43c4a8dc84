"""Soft targets and hard labels against hand-worked values, loops in float64, and the limits known in closed form."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.losses.precision import full
from kdcore.losses.soft_targets import (
    ensemble_signal,
    ensemble_targets,
    entropy,
    hard_labels,
    has_label,
    logit_rows,
    soft_cross_entropy,
    soft_rows,
    soft_targets,
    teacher_signal,
    uncertainty,
)


def logits(rows: int = 5, classes: int = 3, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def slow_kl(student: torch.Tensor, teachers: list[torch.Tensor], t: float, weights: list[float] | None = None) -> float:
    """T^2 KL(weighted mean of teachers || student) as the equation says, one number at a time."""
    total = 0.0
    weights = weights or [1 / len(teachers)] * len(teachers)
    for b, row in enumerate(student.tolist()):
        q = softmax([z / t for z in row])
        each = [softmax([z / t for z in teacher[b].tolist()]) for teacher in teachers]
        p = [sum(w * pk for w, pk in zip(weights, column, strict=True)) for column in zip(*each, strict=True)]
        total += sum(pc * (math.log(pc) - math.log(qc)) for pc, qc in zip(p, q, strict=True))
    return t**2 * total / len(student)


def test_hand_worked_two_classes():
    # teacher softmax (3/4, 1/4), student (1/2, 1/2): KL = ln 2 - H(3/4) = 0.75 ln 1.5 + 0.25 ln 0.5
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    assert soft_targets(student, teacher, 1.0).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    # at T = 2 the same logits doubled give the same softmax, and T^2 = 4 times the value
    assert soft_targets(student, 2 * teacher, 2.0).item() == pytest.approx(4 * 0.130812, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_equals_the_loop(temperature):
    student, teachers = logits(seed=1), [logits(seed=seed) for seed in (2, 3, 4)]
    one, several = soft_targets(student, teachers[0], temperature), ensemble_targets(student, teachers, temperature)
    assert one.item() == pytest.approx(slow_kl(student, teachers[:1], temperature), rel=1e-10)
    assert several.item() == pytest.approx(slow_kl(student, teachers, temperature), rel=1e-10)


def test_ensemble_averages_probabilities_not_logits():
    student = torch.zeros(1, 2, dtype=torch.float64)
    sure = torch.tensor([[50.0, -50.0]], dtype=torch.float64)
    unsure = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
    mean_of_logits = soft_targets(student, (sure + unsure) / 2, 1.0)
    assert not torch.isclose(ensemble_targets(student, [sure, unsure], 1.0), mean_of_logits, rtol=0.1)
    assert ensemble_targets(student, [unsure, unsure], 1.0).item() == pytest.approx(
        soft_targets(student, unsure, 1.0).item(), rel=1e-12
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_weighted_ensemble_equals_the_loop(temperature):
    student, teachers, weights = logits(seed=1), [logits(seed=seed) for seed in (2, 3, 4)], [0.5, 0.2, 0.3]
    value = ensemble_targets(student, teachers, temperature, weights)
    assert value.item() == pytest.approx(slow_kl(student, teachers, temperature, weights), rel=1e-10)
    assert ensemble_signal(student, teachers, temperature, weights, False).item() == value.item()


def test_a_teacher_of_no_weight_says_nothing():
    student, teachers = logits(seed=1).requires_grad_(), [logits(seed=2), logits(seed=3)]
    alone = ensemble_targets(student, teachers, 2.0, [1.0, 0.0])
    assert alone.item() == pytest.approx(soft_targets(student, teachers[0], 2.0).item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(alone, student)
    assert torch.isfinite(gradient).all()


def test_weighted_scores_by_hand():
    student, teachers = torch.tensor([[1.0], [2.0]]), [torch.tensor([[0.0], [4.0]]), torch.tensor([[4.0], [4.0]])]
    # mean scores 0.75 * 0 + 0.25 * 4 = 1 and 4: (0 + 4) / 2
    assert ensemble_signal(student, teachers, 9.0, [0.75, 0.25], True).item() == pytest.approx(2.0)


def test_gradients():
    student, teacher = logits(seed=1).requires_grad_(), logits(seed=2)
    assert gradcheck(lambda s: soft_targets(s, teacher, 3.0), student)
    assert gradcheck(lambda s: ensemble_targets(s, [teacher, logits(seed=3)], 3.0), student)
    assert gradcheck(lambda s: ensemble_targets(s, [teacher, logits(seed=3)], 3.0, [0.9, 0.1]), student)
    assert gradcheck(lambda s: hard_labels(s, torch.tensor([0, 1, 2, 0, 1]), False), student)
    scores = logits(classes=1, seed=4).requires_grad_()
    assert gradcheck(lambda s: hard_labels(s, torch.arange(5.0), True), scores)
    assert gradcheck(lambda s: teacher_signal(s, logits(classes=1, seed=5), 1.0, True), scores)
    several = [logits(classes=1, seed=seed) for seed in (5, 6)]
    assert gradcheck(lambda s: ensemble_signal(s, several, 1.0, [0.3, 0.7], True), scores)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_formula(temperature):
    """d (T^2 KL) / d z_s = T (softmax(z_s / T) - softmax(z_t / T)) per row; the mean divides by the rows."""
    student, teacher = logits(seed=1).requires_grad_(), logits(seed=2)
    (gradient,) = torch.autograd.grad(soft_targets(student, teacher, temperature), student)
    expected = temperature * ((student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)) / len(student)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_high_temperature_limit():
    """T -> infinity: (1 / 2C) sum_c (delta_c - mean delta)^2 with delta = z_t - z_s."""
    student, teacher = logits(seed=1), logits(seed=2)
    delta = teacher - student
    limit = ((delta - delta.mean(-1, keepdim=True)) ** 2).sum(-1).mean() / (2 * delta.shape[-1])
    assert soft_targets(student, teacher, 1e4).item() == pytest.approx(limit.item(), rel=1e-4)
    assert soft_targets(student, teacher, 2.0).item() != pytest.approx(limit.item(), rel=1e-3)


def test_low_temperature_limit_is_the_teachers_guess():
    student, teacher = logits(seed=1), logits(seed=2)
    probabilities = (teacher / 1e-3).softmax(-1)
    pseudo_labels = hard_labels(student, teacher.argmax(-1), False)
    assert soft_cross_entropy(student, probabilities, 1.0).item() == pytest.approx(pseudo_labels.item(), rel=1e-9)


def test_a_constant_added_to_a_row_changes_nothing():
    student, teacher = logits(seed=1), logits(seed=2)
    shift = torch.tensor([[100.0], [-7.0], [3.0], [0.0], [41.0]], dtype=torch.float64)
    plain = soft_targets(student, teacher, 2.0)
    torch.testing.assert_close(soft_targets(student + shift, teacher, 2.0), plain, rtol=1e-10, atol=0)
    torch.testing.assert_close(soft_targets(student, teacher - shift, 2.0), plain, rtol=1e-10, atol=0)


def test_batchmean_is_classes_times_mean():
    student, teacher = logits(classes=4, seed=1), logits(classes=4, seed=2)
    elements = torch.nn.functional.kl_div((student / 3).log_softmax(-1), (teacher / 3).softmax(-1), reduction="none")
    mean = elements.mean()  # what reduction="mean" gives: over rows and classes
    assert soft_targets(student, teacher, 3.0).item() == pytest.approx(4 * 9 * mean.item(), rel=1e-10)


def test_soft_cross_entropy_is_kl_plus_the_teachers_entropy():
    student, teacher = logits(seed=1).requires_grad_(), logits(seed=2)
    p = teacher.softmax(-1)
    difference = soft_cross_entropy(student, p, 1.0) - soft_targets(student, teacher, 1.0)
    assert difference.item() == pytest.approx(entropy(p).mean().item(), rel=1e-10)
    (ce,) = torch.autograd.grad(soft_cross_entropy(student, p, 1.0), student)
    (kl,) = torch.autograd.grad(soft_targets(student, teacher, 1.0), student)
    torch.testing.assert_close(ce, kl)
    assert soft_cross_entropy(teacher, p, 1.0).item() == pytest.approx(entropy(p).mean().item(), rel=1e-12)


def test_entropy_by_hand():
    got = entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]], dtype=torch.float64))
    expected = [0.0, math.log(2), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))]
    assert got.tolist() == pytest.approx(expected, abs=1e-12)


def test_hard_labels_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4)
    row = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    expected = -(math.log(0.75) + math.log(0.25)) / 2
    assert hard_labels(row, torch.tensor([0, 1]), False).item() == pytest.approx(expected, rel=1e-6)
    scores = torch.tensor([[1.0], [4.0]])
    assert hard_labels(scores, torch.tensor([3.0, 4.0]), True).item() == pytest.approx(2.0)


def test_regression_signal_is_the_squared_error_whatever_the_temperature():
    student, teacher = torch.tensor([[1.0], [4.0]]), torch.tensor([[3.0], [5.0]])
    assert teacher_signal(student, teacher, 1.0, True).item() == pytest.approx(2.5)
    assert teacher_signal(student, teacher, 9.0, True).item() == pytest.approx(2.5)


def test_no_loss_where_student_equals_teacher():
    same = logits(seed=1)
    assert soft_targets(same, same, 4.0).item() == pytest.approx(0.0, abs=1e-12)
    assert soft_targets(same, logits(seed=2), 4.0).item() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_compared_in_float32(dtype):
    student, teacher = logits(seed=1).to(dtype), logits(seed=2).to(dtype)
    got = soft_targets(student, teacher, 10.0)
    assert got.dtype == torch.float32
    # a result computed in half precision would be off by about 1e-2
    assert got.item() == pytest.approx(soft_targets(student.double(), teacher.double(), 10.0).item(), rel=1e-4)
    assert hard_labels(student, torch.zeros(5, dtype=torch.int64), False).dtype == torch.float32
    assert hard_labels(student[:, :1], torch.zeros(5, dtype=torch.float64), True).dtype == torch.float32


def test_autocast_does_not_reach_the_losses():
    student, teacher = logits(seed=1).float(), logits(seed=2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = soft_targets(student, teacher, 10.0)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, soft_targets(student, teacher, 10.0))


def test_extreme_logits_stay_finite():
    far = torch.tensor([[1e4, -1e4, 0.0]])
    for temperature in (0.1, 1.0, 100.0):
        value = soft_targets(-far, far, temperature)
        assert torch.isfinite(value) and value > 0
        assert torch.isfinite(ensemble_targets(-far, [far, -far], temperature))


def test_full_precision_keeps_float64():
    assert full(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    assert full(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32


def test_rows_of_soft_targets_are_each_rows_own_loss():
    student, teacher = logits(seed=1), logits(seed=2)
    alone = [slow_kl(student[row : row + 1], [teacher[row : row + 1]], 4.0) for row in range(len(student))]
    assert soft_rows(student, teacher, 4.0).tolist() == pytest.approx(alone, rel=1e-10)
    assert soft_rows(student, teacher, 4.0).mean().item() == pytest.approx(soft_targets(student, teacher, 4.0).item())
    assert gradcheck(lambda s: soft_rows(s, teacher, 4.0), student.requires_grad_())


def test_rows_of_logits_by_hand():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [3.0, 0.0]])
    assert logit_rows(student, teacher).tolist() == [2.5, 4.5]
    assert gradcheck(lambda s: logit_rows(s, logits(seed=2)), logits(seed=1).requires_grad_())


def test_uncertainty_lies_between_none_and_one():
    assert uncertainty(torch.zeros(1, 5)).item() == pytest.approx(1.0)
    assert uncertainty(torch.tensor([[900.0, 0.0, 0.0]], dtype=torch.bfloat16)).item() == pytest.approx(0.0)
    for row, found in zip(logits(), uncertainty(logits()), strict=True):
        p = softmax(row.tolist())
        assert found.item() == pytest.approx(-sum(pc * math.log(pc) for pc in p) / math.log(3), rel=1e-10)
    assert gradcheck(uncertainty, logits().requires_grad_())


@pytest.mark.parametrize("regression", [False, True])
def test_rows_without_a_label_add_nothing(regression):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(5, 1 if regression else 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randn(5, generator=generator, dtype=torch.float64) if regression else torch.tensor([0, 2, 1, 1, 0])
    few = labels.clone()
    few[[1, 4]] = float("nan") if regression else -1
    assert has_label(few).tolist() == [True, False, True, True, False]
    alone = sum(hard_labels(logits[row : row + 1], labels[row : row + 1], regression) for row in (0, 2, 3)) / 5
    loss = hard_labels(logits, few, regression)
    assert loss.item() == pytest.approx(alone.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all() and not gradient[[1, 4]].any() and gradient[[0, 2, 3]].any()
    nobody = torch.full_like(labels, float("nan") if regression else -1)
    loss = hard_labels(logits, nobody, regression)
    assert loss.item() == 0 and not torch.autograd.grad(loss, logits)[0].any()


def test_with_all_labels_it_is_the_plain_loss_bit_for_bit():
    logits, labels = torch.randn(7, 3, requires_grad=True), torch.arange(7) % 3
    plain, ours = torch.nn.functional.cross_entropy(logits, labels), hard_labels(logits, labels, False)
    assert torch.equal(plain, ours)
    assert torch.equal(*(torch.autograd.grad(loss * 0.3, logits)[0] for loss in (plain, ours)))
