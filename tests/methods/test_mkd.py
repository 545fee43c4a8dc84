"""MKD: the head of a batch's task, the squared error of its logits, and the stage that asks no teacher."""

from dataclasses import replace

import pytest
import torch

from kdcore.methods import METHODS
from kdcore.records import Outputs, Step
from kdcore.tasks import TASKS
from tests.methods.contract import Contract

CONTRACT = Contract(variants=({"joint": 1.0}, {"power": 1.0}))

ALSO = {key: TASKS[key] for key in ("rte", "stsb", "mnli")}


@pytest.fixture
def made(world):
    """MKD on four tasks of 3, 2, 1 and 3 classes, in float64."""
    one = world("mkd")
    one.method = METHODS["mkd"](one.method.config, replace(one.setup, also=ALSO)).double()
    return one


def of_task(step: Step, task: str, seed: int = 3) -> Step:
    """The same step with a batch of another task, whose teacher says something else."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(step.batch), ALSO[task].outputs, generator=generator, dtype=torch.float64)
    teacher = Outputs({"logits": logits}, step.student.mask)
    return replace(step, batch=replace(step.batch, task=task), teachers={"big": teacher}, rows={"big": None})


def slow(ours, theirs) -> float:
    """Mean over classes, then over rows, one number at a time."""
    rows = [sum((s - t) ** 2 for s, t in zip(a, b, strict=True)) / len(a) for a, b in zip(ours, theirs, strict=True)]
    return sum(rows) / len(rows)


def test_the_runs_own_task_is_matched_by_the_classifier(made):
    step = made.step("joint")
    term = made.method.terms(step)["logits"]
    expected = slow(step.student.logits.tolist(), step.teacher.logits.tolist())
    assert term.value.item() == pytest.approx(expected, rel=1e-12)
    assert term.weight == 1.0


@pytest.mark.parametrize("task", ALSO)
def test_another_task_is_matched_by_its_own_head(made, task):
    step = of_task(made.step("joint"), task)
    head = made.method.heads[task]
    assert (head.out_features, head.in_features) == (ALSO[task].outputs, 8)
    weight, bias = head.weight.tolist(), head.bias.tolist()
    ours = [
        [sum(w * x for w, x in zip(row, pooled, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        for pooled in step.student.pooled.tolist()
    ]
    value = made.method.terms(step)["logits"].value
    assert value.item() == pytest.approx(slow(ours, step.teacher.logits.tolist()), rel=1e-12)


def test_only_the_head_of_the_batchs_task_learns(made):
    step = of_task(made.step("joint"), "rte")
    made.method.terms(step)["logits"].value.backward()
    grads = {task: head.weight.grad for task, head in made.method.heads.items()}
    assert grads["rte"].abs().sum() > 0 and grads["stsb"] is None and grads["mnli"] is None
    assert step.student.pooled.grad.abs().sum() > 0 and step.student.logits.grad is None


def test_a_constant_on_all_of_a_teachers_logits_counts(made):
    """A divergence of softmaxes would not see it."""
    step = made.step("joint")
    shifted = replace(step, teachers={"big": Outputs({"logits": step.teacher.logits + 2.0}, step.student.mask)})
    equal = replace(step, teachers={"big": Outputs({"logits": step.student.logits.detach()}, step.student.mask)})
    before, after = (made.method.terms(one)["logits"].value.item() for one in (step, shifted))
    assert abs(after - before) > 0.1
    loss = made.method.terms(equal)["logits"].value
    loss.backward()
    assert loss.item() == 0 and not step.student.logits.grad.any()


def test_the_second_stage_asks_no_teacher_and_draws_labelled_rows_of_the_runs_task(world):
    joint, last = world("mkd", {"joint": 0.7, "power": 0.5}).method.stages()
    assert (joint.share, joint.task_power, joint.labelled) == (0.7, 0.5, False)
    assert last.share == pytest.approx(0.3) and last.task_power is None and last.labelled
    assert last.asks(["big"]) == () and last.start == "last" and not last.trains("method")
    assert [stage.name for stage in world("mkd", {"joint": 1.0}).method.stages()] == ["joint"]


def test_heads_follow_from_the_seed_and_not_from_torchs_generator(made):
    again = METHODS["mkd"](made.method.config, made.method.setup)
    torch.manual_seed(99)
    other = METHODS["mkd"](made.method.config, replace(made.method.setup, seed=1))
    for task, head in again.heads.items():
        assert torch.equal(head.weight.double(), made.method.heads[task].weight)
        assert not torch.equal(head.weight, other.heads[task].weight) and not head.bias.any()
