"""Annealing KD: the logits grow from 1 / n of the teacher's to all of them, then the labels teach alone."""

import pytest
import torch

from kdcore.methods import METHODS
from kdcore.records import Outputs
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"temperatures": 1},),
    not_zero=frozenset({"logits"}),  # of a part of the teacher's logits, at first
)


def scales(world, steps: int, temperatures: int) -> list[float]:
    made = world("annealing-kd", {"temperatures": temperatures})
    step = made.step("anneal")
    return [made.method.scale(type(step)(**{**vars(step), "step": at, "steps": steps})) for at in range(1, steps + 1)]


def with_logits(said: Outputs, logits: torch.Tensor) -> Outputs:
    return Outputs({"logits": logits}, said.mask)


@pytest.mark.parametrize(("steps", "temperatures"), [(14, 7), (70, 7), (10, 4), (3, 7), (1, 7), (5, 1), (1000, 7)])
def test_the_scale_rises_from_one_part_to_the_whole_and_never_beyond(world, steps, temperatures):
    found = scales(world, steps, temperatures)
    assert found == sorted(found) and found[-1] == 1.0
    assert found[0] == 1 / min(steps, temperatures)
    assert len(set(found)) == min(steps, temperatures)


def test_the_scale_of_the_published_example(world):
    """14 epochs at n = 7: two epochs at each of 1/7, 2/7, .., 1."""
    assert scales(world, 14, 7) == pytest.approx([part / 7 for part in range(1, 8) for _ in (0, 1)])


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("number", [1, 40, 100])
def test_the_first_stage_equals_the_equation(world, regression, number):
    made = world("annealing-kd", regression=regression)
    step = made.step("anneal", number=number)
    scale = made.method.scale(step)
    ours, theirs = step.student.logits.tolist(), step.teacher.logits.tolist()
    slow = sum(
        sum((s - scale * t) ** 2 for s, t in zip(a, b, strict=True)) / len(a) for a, b in zip(ours, theirs, strict=True)
    ) / len(ours)
    assert made.method.anneal(step)["logits"].value.item() == pytest.approx(slow, rel=1e-10)


def test_one_temperature_is_regression_of_the_logits(world):
    made = world("annealing-kd", {"temperatures": 1})
    step = made.step("anneal")
    expected = torch.nn.functional.mse_loss(step.student.logits, step.teacher.logits).item()
    assert made.method.anneal(step)["logits"].value.item() == pytest.approx(expected, rel=1e-12)


def test_there_is_no_loss_where_the_student_says_the_scaled_logits(world, replaced):
    made = world("annealing-kd")
    step = made.step("anneal", number=50)
    scale = made.method.scale(step)
    assert 0 < scale < 1
    same = replaced(step, students={"student": with_logits(step.student, scale * step.teacher.logits)})
    assert made.method.anneal(same)["logits"].value.item() == pytest.approx(0, abs=1e-20)


def test_the_target_is_the_teachers_logits_made_shorter(world, replaced):
    """Its class is the teacher's, and its length p times as long; at logits of 0 the gradient shows it."""
    made = world("annealing-kd")
    step = made.step("anneal", number=30)
    nothing = torch.zeros_like(step.student.logits).requires_grad_()
    said = replaced(step, students={"student": with_logits(step.student, nothing)})
    (gradient,) = torch.autograd.grad(made.method.anneal(said)["logits"].value, nothing)
    target, theirs = -gradient * nothing.numel() / 2, step.teacher.logits
    assert 0 < made.method.scale(step) < 1
    torch.testing.assert_close(target.norm(dim=-1), made.method.scale(step) * theirs.norm(dim=-1))
    assert torch.equal(target.argmax(-1), theirs.argmax(-1))


def test_gradient_by_hand_and_by_gradcheck(world, replaced):
    made = world("annealing-kd")
    step = made.step("anneal", number=60)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return made.method.anneal(replaced(step, students={"student": with_logits(step.student, logits)}))[
            "logits"
        ].value

    assert torch.autograd.gradcheck(loss, step.student.logits)
    loss(step.student.logits).backward()
    apart = step.student.logits.detach() - made.method.scale(step) * step.teacher.logits
    torch.testing.assert_close(step.student.logits.grad, 2 * apart / apart.numel())


def test_the_first_stage_reads_no_label_and_the_second_asks_no_teacher(world, replaced):
    made = world("annealing-kd")
    first, second = made.method.stages()
    assert second.needs.teacher == {} and second.needs.student == first.needs.student == {"logits": ()}
    step = made.step("anneal")
    shuffled = replaced(step, batch=type(step.batch)(step.batch.ids, step.batch.labels.flip(0), step.batch.encodings))
    assert torch.equal(made.method.anneal(shuffled)["logits"].value, made.method.anneal(step)["logits"].value)
    alone = made.step("predict")
    assert not alone.teachers
    assert torch.equal(made.loss(alone), world("fine-tune").loss(alone))


def test_the_second_stage_starts_from_the_best_weights_with_the_rest_of_the_steps(world):
    first, second = world("annealing-kd", {"anneal_share": 0.6}).method.stages()
    assert (first.share, second.share, first.ends) == (0.6, pytest.approx(0.4), "best")
    assert first.judge == second.judge == "score"


def test_the_scale_is_told_and_survives(world):
    made, again = world("annealing-kd"), world("annealing-kd")
    assert made.method.notes() == {"scale/teacher's logits": 0.0}
    made.method.after_step(made.step("anneal", number=50))
    made.method.after_step(made.step("predict", number=1))
    again.method.restore_history(made.method.history())
    assert again.method.notes() == made.method.notes() == {"scale/teacher's logits": 4 / 7}


def test_the_published_share():
    assert METHODS["annealing-kd"].Config().anneal_share == pytest.approx(14 / 18, abs=0.01)
