"""Teacher assistants: the chain, who teaches whom, and the loss of each learner. `tests/engine` has the trainings."""

import math
from itertools import pairwise

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import METHODS, resolve
from kdcore.methods.takd import assistant_depths
from tests.methods.contract import Contract

CONTRACT = Contract(variants=({"alpha": 1.0},), deeper_teacher=True)

TWO = {"assistants": 2}


def kd_by_hand(student, teacher, labels, alpha, t):
    """(1 - a) CE + a T^2 KL(teacher || student), one number at a time."""
    total = 0.0
    for row, said, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        q_1, q_t, p = softmax(row, 1.0), softmax(row, t), softmax(said, t)
        kl = sum(pc * math.log(pc / qc) for pc, qc in zip(p, q_t, strict=True))
        total += -(1 - alpha) * math.log(q_1[label]) + alpha * t * t * kl
    return total / len(student)


def softmax(row, t):
    total = sum(math.exp(z / t) for z in row)
    return [math.exp(z / t) / total for z in row]


@pytest.mark.parametrize(
    ("teacher", "student", "count", "expected"),
    [
        (12, 6, 1, [9]),
        (12, 3, 1, [8]),  # 7.5: halves up
        (12, 3, 2, [9, 6]),
        (12, 6, 2, [10, 8]),
        (12, 4, 3, [10, 8, 6]),
        (24, 6, 3, [20, 15, 11]),  # 19.5, 15, 10.5
        (4, 2, 1, [3]),
        (6, 3, 2, [5, 4]),
        (6, 2, 3, [5, 4, 3]),
    ],
)
def test_depths(teacher, student, count, expected):
    assert assistant_depths(student, teacher, count) == expected


def test_depths_lie_strictly_between_and_fall():
    for teacher in range(2, 25):
        for student in range(1, teacher):
            for count in range(1, min(4, teacher - student)):
                chain = [teacher, *assistant_depths(student, teacher, count), student]
                assert len(chain) == count + 2 and all(a > b for a, b in pairwise(chain)), chain


@pytest.mark.parametrize(("student", "count"), [(6, 1), (8, 1), (5, 1), (4, 2), (3, 3)])
def test_no_room_is_refused_with_what_to_do(world, shape, student, count):
    with pytest.raises(UserError, match=rf"options\.assistants.*6 layers.*{student} .*not {count}") as said:
        world("takd", {"assistants": count}, student=shape(student))
    assert "fewer" in said.value.remedy


def test_counts_of_assistants_are_bounded():
    for wrong in (0, 4, "many"):
        with pytest.raises(UserError, match=r"options\.assistants"):
            resolve("takd", {"assistants": wrong})


@pytest.mark.parametrize("count", [1, 2])
def test_each_learns_from_the_one_before(world, count):
    made = world("takd", {"assistants": count})
    *pilots, final = made.method.stages()
    names = [f"assistant-{i}" for i in range(1, count + 1)]
    assert [stage.name for stage in pilots] == names and final.name == "distil"
    assert all(stage.pilot and stage.share == 1.0 and stage.start == "last" for stage in pilots)
    assert not final.pilot and final.share == 1.0 and final.start == "last"
    assert METHODS["takd"].pilots(made.method.config, 1) == count
    # who runs, and who of them is trained
    assert [stage.students for stage in pilots] == [(name,) for name in names] and final.students == ("student",)
    for stage in (*pilots, final):
        trained = [role for role in ("student", *names) if stage.trains(role)]
        assert trained == [stage.name if stage.pilot else "student"]
    # the teacher is asked for the first assistant alone; each assistant becomes the teacher of the next learner
    assert [stage.asks(["big"]) for stage in (*pilots, final)] == [("big",), *((name,) for name in names)]
    assert [stage.adopt for stage in (*pilots, final)] == [*((name,) for name in names), ()]
    assert {stage.ends for stage in pilots} == {"last"}


def test_builds_the_student_first_and_assistants_by_depth(world, shape):
    made = world("takd", TWO, student=shape(2))
    asked = []
    roles = made.method.build_students(lambda layers=None: asked.append(layers) or torch.nn.Linear(1, 1))
    assert list(roles) == ["student", "assistant-1", "assistant-2"] and asked == [None, 5, 3]  # 4.67 and 3.33


@pytest.mark.parametrize(
    ("stage", "learner", "teaching"),
    [
        ("assistant-1", "assistant-1", "big"),
        ("assistant-2", "assistant-2", "assistant-1"),
        ("distil", "student", "assistant-2"),
    ],
)
def test_every_lesson_equals_the_equation(world, stage, learner, teaching):
    made = world("takd", {**TWO, "alpha": 0.3, "temperature": 4.0})
    step = made.step(stage)
    assert set(step.students) == {learner} and set(step.teachers) == {teaching}
    said = step.teachers[teaching].logits
    ours = step.students[learner].logits
    expected = kd_by_hand(ours, said, step.batch.labels, 0.3, 4.0)
    assert made.loss(step).item() == pytest.approx(expected, rel=1e-10)
    made.loss(step).backward()
    assert ours.grad.abs().sum() > 0 and said.grad is None and not said.requires_grad


def test_the_loss_of_a_lesson_is_that_of_kd(world, replaced):
    """With the assistant in the teacher's place, the student's loss is KD's, bit for bit."""
    for regression in (False, True):
        made = world("takd", {"alpha": 0.4, "temperature": 3.0}, regression=regression)
        step = made.step()
        plain = replaced(step, teachers={"big": step.teachers["assistant-1"]}, rows={"big": None})
        kd = world("kd", {"alpha": 0.4, "temperature": 3.0}, regression=regression)
        assert torch.equal(made.loss(step), kd.loss(plain))


def test_scores_are_matched_by_squared_error(world):
    made = world("takd", {"alpha": 0.3}, regression=True)
    step = made.step()
    ours, theirs = (said.logits[:, 0].tolist() for said in (step.student, step.teachers["assistant-1"]))
    gold = step.batch.labels.tolist()
    expected = sum(0.7 * (s - y) ** 2 + 0.3 * (s - t) ** 2 for s, t, y in zip(ours, theirs, gold, strict=True)) / 6
    assert made.loss(step).item() == pytest.approx(expected, rel=1e-10)


def test_alpha_one_ignores_the_labels_in_every_lesson(world, replaced):
    made = world("takd", {**TWO, "alpha": 1.0})
    for stage in made.method.stages():
        step = made.step(stage.name)
        other = type(step.batch)(step.batch.ids, (step.batch.labels + 1) % 3, step.batch.encodings)
        assert torch.equal(made.loss(replaced(step, batch=other)), made.loss(step))


def test_equal_logits_leave_no_soft_loss(world, replaced):
    """Where learner and model before say the same; the contract's bench has no room for an assistant."""
    made = world("takd", TWO)
    for stage in made.method.stages():
        step = made.step(stage.name)
        assert made.terms(step)["soft"] > 1e-3
        (learner,) = step.students.values()
        step = replaced(step, teachers=dict.fromkeys(step.teachers, learner))
        assert made.terms(step)["soft"] == pytest.approx(0.0, abs=1e-12)


def test_the_published_lambda_converts(world):
    """The code's (1 - l) CE + l T^2 KL / C is ours up to one factor, as `departs` says."""
    given, classes = 0.5, 3
    alpha = given / (given + classes * (1 - given))
    made = world("takd", {"alpha": alpha})
    terms = made.terms(made.step())
    published = (1 - given) * terms["hard"] + given * terms["soft"] / classes
    assert made.loss(made.step()).item() == pytest.approx(published * (1 - alpha) / (1 - given), rel=1e-10)
    assert round(0.5 / (0.5 + 2 * 0.5), 2) == 0.33


def test_takes_exactly_one_teacher_and_matches_no_layers(shape):
    method, config = resolve("takd", {})
    assert method.teachers == (1, 1) and method.layer_map(config, shape(2), shape(6)) == {}
