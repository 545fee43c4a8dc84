"""KD with peers: each student's loss by its equation, whose gradient goes where, and whom it takes."""

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.methods import METHODS, resolve
from kdcore.records import Outputs
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"students": 3, "teacher": "online"},),
    trained=({"teacher": "mutual"},),
    not_zero=frozenset({"soft", "peer", "teacher", "answer"}),
)


def softmax(row, t=1.0):
    total = sum(math.exp(z / t) for z in row)
    return [math.exp(z / t) / total for z in row]


def kl(guide, ours, t):
    """T^2 KL, mean over rows, one number at a time."""
    total = 0.0
    for said, row in zip(guide.tolist(), ours.tolist(), strict=True):
        total += sum(p * math.log(p / q) for p, q in zip(softmax(said, t), softmax(row, t), strict=True))
    return t * t * total / len(ours)


def error(guide, ours, t):
    return (guide - ours).square().mean().item()


def hard(ours, labels):
    rows = zip(ours.tolist(), labels.tolist(), strict=True)
    return -sum(math.log(softmax(row)[label]) for row, label in rows) / len(ours)


def logits(step):
    return {role: said.logits for role, said in step.students.items()}


def with_logits(step, said):
    students = {role: Outputs({"logits": tensor}, step.students[role].mask) for role, tensor in said.items()}
    return replace(step, students=students)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("regression", [False, True])
def test_the_terms_equal_the_equation(world, count, regression):
    made = world("peers", {"students": count, "temperature": 3.0}, regression=regression)
    step = made.step()
    said, labels, apart = list(logits(step).values()), step.batch.labels, error if regression else kl
    found = made.terms(step)
    gold = [(one[:, 0] - labels).square().mean().item() if regression else hard(one, labels) for one in said]
    assert found["hard"] == pytest.approx(sum(gold), rel=1e-10)
    assert found["soft"] == pytest.approx(sum(apart(step.teacher.logits, one, 3.0) for one in said), rel=1e-10)
    pairs = [apart(guide, one, 3.0) for one, guide in permutations(said, 2)]
    assert found["peer"] == pytest.approx(sum(pairs) / (count - 1), rel=1e-10)


def test_a_teacher_that_learns_equals_the_equation(world):
    made = world("peers", {"teacher": "mutual", "temperature": 3.0, "answer_weight": 0.5, "peer_weight": 2.0})
    step = made.step()
    said, labels = logits(step), step.batch.labels
    teacher, students = said.pop("teacher"), list(said.values())
    expected = {
        "hard": sum(hard(one, labels) for one in students),
        "soft": sum(kl(teacher, one, 3.0) for one in students),
        "peer": kl(students[0], students[1], 3.0) + kl(students[1], students[0], 3.0),
        "teacher": hard(teacher, labels),
        "answer": sum(kl(one, teacher, 3.0) for one in students) / 2,
    }
    assert made.terms(step) == pytest.approx(expected, rel=1e-10)
    weights = {"peer": 2.0, "answer": 0.5}
    total = sum(weights.get(name, 1.0) * value for name, value in expected.items())
    assert made.loss(step).item() == pytest.approx(total, rel=1e-10)
    online = world("peers", {"teacher": "online", "temperature": 3.0})
    assert online.terms(step) == pytest.approx({n: v for n, v in expected.items() if n != "answer"}, rel=1e-10)


@pytest.mark.parametrize("teacher", ["frozen", "mutual"])
def test_a_models_gradient_is_that_of_its_own_loss_with_the_others_as_constants(world, teacher):
    """Finite differences of what one student's loss is, while the others' answers stand still."""
    made = world("peers", {"students": 3, "teacher": teacher})
    step = made.step()
    said = logits(step)
    found = torch.autograd.grad(made.loss(step), list(said.values()))
    for (role, own), gradient in zip(said.items(), found, strict=True):
        still = {other: tensor.detach() for other, tensor in said.items()}

        def alone(tensor, role=role, still=still):
            """The role's own part: what it says to others is taken out again, in value alone."""
            told = as_guide(made, said, tensor, role)
            return made.loss(with_logits(step, {**still, role: tensor})) - told.detach()

        assert gradcheck(alone, own)
        torch.testing.assert_close(gradient, torch.autograd.grad(alone(own), own)[0])


def as_guide(made, said, tensor, role):
    """What the others' losses hold of this role's answers."""
    config, total = made.method.config, torch.zeros((), dtype=torch.float64)
    weights = {"teacher": config.answer_weight / config.students}
    for other, ours in said.items():
        if other == role:
            continue
        peer = config.soft_weight if role == "teacher" else config.peer_weight / (config.students - 1)
        weight, t = weights.get(other, peer), config.temperature
        p, q = (tensor / t).log_softmax(-1), (ours.detach() / t).log_softmax(-1)
        total = total + weight * t * t * (p.exp() * (p - q)).sum(-1).mean()
    return total


def test_the_names_of_students_do_not_matter(world):
    made = world("peers", {"students": 3})
    step = made.step()
    one, two, three = logits(step).values()
    turned = with_logits(step, dict(zip(step.students, (three, one, two), strict=True)))
    assert made.loss(turned).item() == pytest.approx(made.loss(step).item(), rel=1e-12)


def test_students_that_agree_teach_one_another_nothing(world):
    made = world("peers", {"students": 3})
    step = made.step()
    assert made.terms(step)["peer"] > 1e-3
    same = dict.fromkeys(step.students, step.students["student"].logits)
    assert made.terms(with_logits(step, same))["peer"] == pytest.approx(0.0, abs=1e-12)
    taught = dict.fromkeys(step.students, step.teacher.logits)
    assert made.terms(with_logits(step, taught))["soft"] == pytest.approx(0.0, abs=1e-12)


def test_without_the_others_the_first_learns_as_by_kd(world):
    """Its gradient is KD's, bit for bit."""
    made = world("peers", {"peer_weight": 0.0, "hard_weight": 0.5, "soft_weight": 0.5, "temperature": 10.0})
    step = made.step()
    first = step.students["student"].logits
    kd = world("kd")
    alone = kd.loss(replace(step, students={"student": step.students["student"]}))
    assert torch.equal(torch.autograd.grad(made.loss(step), first)[0], torch.autograd.grad(alone, first)[0])


def test_several_teachers_teach_by_their_mean(world):
    made = world("peers", {"temperature": 2.0}, teachers=["a", "b"])
    step = made.step()
    mean = torch.stack([(said.logits / 2).softmax(-1) for said in step.teachers.values()]).mean(0)
    expected = sum(
        4 * sum(p * math.log(p / q) for p, q in zip(said, softmax(row, 2.0), strict=True)) / 6
        for ours in logits(step).values()
        for said, row in zip(mean.tolist(), ours.tolist(), strict=True)
    )
    assert made.terms(step)["soft"] == pytest.approx(expected, rel=1e-10)


def test_a_teacher_that_learns_is_alone_and_is_asked_nothing_that_is_kept(world):
    for teacher in ("online", "mutual"):
        method, config = resolve("peers", {"teacher": teacher})
        assert method.takes(config) == (1, 1) and method.teachers == (1, 12)
        (stage,) = world("peers", {"teacher": teacher}).method.stages()
        assert not stage.needs.teacher and stage.trains("teacher")
    (stage,) = world("peers").method.stages()
    assert stage.students == ("student", "peer-2") and stage.needs.teacher == {"logits": ()}


def test_students_start_from_draws_of_their_own(world):
    draws = []

    def build(layers=None, draw=0, of=None):
        draws.append((draw, of))
        return torch.nn.Linear(1, 1)

    assert list(world("peers", {"students": 4}).method.build_students(build)) == [
        "student", "peer-2", "peer-3", "peer-4",
    ]  # fmt: skip
    world("peers", {"teacher": "online"}).method.build_students(build)
    assert draws == [(0, None), (1, None), (2, None), (3, None), (0, None), (1, None), (0, "big")]


def test_what_is_told_is_how_often_they_name_one_class(world):
    made = world("peers", {"students": 3})
    assert made.method.notes() == {}
    step = made.step()
    made.method.terms(step)
    made.method.after_step(step)
    named = [said.argmax(-1).tolist() for said in logits(step).values()]
    pairs = [sum(a == b for a, b in zip(named[i], named[j], strict=True)) / 6 for i, j in ((0, 1), (0, 2), (1, 2))]
    assert made.method.notes() == pytest.approx({"agreement/students": sum(pairs) / 3})
    with torch.no_grad():
        made.method.terms(step)
    made.method.after_step(step)
    assert int(made.method.agreement.count) == 1, "a judgement is no step"
    scores = world("peers", regression=True)
    scores.method.terms(scores.step())
    scores.method.after_step(scores.step())
    assert scores.method.notes() == {}


def test_every_kind_of_task():
    assert METHODS["peers"].kinds == {"classification", "regression"}
