"""KD: the card's invariants (those of the loss alone are in tests/losses)."""

import math

import pytest
import torch

from tests.methods.contract import Contract

CONTRACT = Contract(variants=({"alpha": 1.0},))


def reference(student, teachers, labels, alpha, t):
    """(1 - a) CE + a T^2 KL(mean of teachers || student), one number at a time."""
    total = 0.0
    for b, row in enumerate(student.tolist()):
        q_1, q_t = softmax(row, 1.0), softmax(row, t)
        each = [softmax(teacher[b].tolist(), t) for teacher in teachers]
        p = [sum(column) / len(each) for column in zip(*each, strict=True)]
        kl = sum(pc * math.log(pc / qc) for pc, qc in zip(p, q_t, strict=True))
        total += -(1 - alpha) * math.log(q_1[labels[b]]) + alpha * t * t * kl
    return total / len(student)


def softmax(row, t):
    total = sum(math.exp(z / t) for z in row)
    return [math.exp(z / t) / total for z in row]


@pytest.mark.parametrize("teachers", [["big"], ["big", "other", "third"]])
def test_equals_the_equation(world, teachers):
    made = world("kd", {"alpha": 0.3, "temperature": 4.0}, teachers=teachers)
    step = made.step()
    said = [step.teachers[name].logits for name in teachers]
    expected = reference(step.student.logits, said, step.batch.labels, 0.3, 4.0)
    assert made.loss(step).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("regression", [False, True])
def test_alpha_zero_is_fine_tuning_exactly(world, regression):
    kd, alone = world("kd", {"alpha": 0.0}, regression=regression), world("fine-tune", regression=regression)
    step = kd.step()
    assert torch.equal(kd.loss(step), alone.loss(step))
    (ours,) = torch.autograd.grad(kd.loss(step), step.student.logits)
    (plain,) = torch.autograd.grad(alone.loss(step), step.student.logits)
    assert torch.equal(ours, plain)


def test_alpha_one_ignores_the_labels(world, replaced):
    made = world("kd", {"alpha": 1.0})
    step = made.step()
    other = type(step.batch)(step.batch.ids, (step.batch.labels + 1) % 3, step.batch.encodings)
    assert torch.equal(made.loss(replaced(step, batch=other)), made.loss(step))
    assert not torch.equal(world("kd").loss(replaced(step, batch=other)), world("kd").loss(step))


def test_equal_logits_leave_no_soft_loss(world, replaced):
    made = world("kd")
    step = made.step()
    same = replaced(step, teachers={"big": step.student})
    assert made.terms(same)["soft"] == pytest.approx(0.0, abs=1e-12)
    assert made.terms(step)["soft"] > 1e-3


def test_scores_pull_to_the_teachers_mean_score(world):
    made = world("kd", {"alpha": 1.0}, teachers=["big", "other"], regression=True)
    step = made.step()
    mean = (step.teachers["big"].logits + step.teachers["other"].logits) / 2
    expected = ((step.student.logits - mean) ** 2).mean()
    assert made.loss(step).item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_published_weights_convert(world):
    """(1 - a) CE + a T^2 KL / C, the Patient KD authors' form, is ours up to one factor at a' = a / (a + C (1 - a))."""
    theirs, classes, temperature = 0.7, 3, 10.0
    ours = theirs / (theirs + classes * (1 - theirs))
    made = world("kd", {"alpha": ours, "temperature": temperature})
    terms = made.terms(made.step())
    published = (1 - theirs) * terms["hard"] + theirs * terms["soft"] / classes
    assert made.loss(made.step()).item() == pytest.approx(published * (1 - ours) / (1 - theirs), rel=1e-10)


def test_a_teacher_that_answers_some_rows_is_compared_on_those(world, replaced):
    made = world("kd", {"alpha": 1.0})
    step = made.step()
    rows = torch.tensor([4, 1])
    said = type(step.teacher)({"logits": step.teacher.logits[rows]}, step.teacher.mask[rows])
    part = replaced(step, teachers={"big": said}, rows={"big": rows})
    chosen = replaced(
        step,
        students={"student": type(said)({"logits": step.student.logits[rows]}, said.mask)},
        batch=type(step.batch)(step.batch.ids[rows], step.batch.labels[rows], {}),
        teachers={"big": said},
    )
    assert made.terms(part)["soft"] == pytest.approx(made.terms(chosen)["soft"], rel=1e-12)


def test_where_there_is_no_training_there_is_no_probe(world):
    made = world("kd")
    with pytest.raises(ValueError, match="only `after_step` of a training"):
        made.step().probe()
