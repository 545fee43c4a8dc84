"""The baseline is cross-entropy (or squared error) and nothing else."""

import pytest
import torch

from kdcore.methods import find_method


def test_is_plain_cross_entropy(world):
    made = world("fine-tune")
    step = made.step()
    expected = torch.nn.functional.cross_entropy(step.student.logits, step.batch.labels)
    assert torch.equal(made.loss(step), expected)


def test_is_the_squared_error_for_scores(world):
    made = world("fine-tune", regression=True)
    step = made.step()
    expected = ((step.student.logits[:, 0] - step.batch.labels) ** 2).mean()
    assert made.loss(step).item() == pytest.approx(expected.item(), rel=1e-12)


def test_needs_and_asks_no_teacher(world):
    method = find_method("fine-tune")
    assert method.teachers[0] == 0 and not method.needs.teacher
    for teachers in ([], ["big", "small"]):  # a teacher may be there for its initial weights
        made = world("fine-tune", teachers=teachers)
        assert made.step().teachers == {} and made.method.pick_teachers(made.step()) == {}
