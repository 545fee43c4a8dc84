"""Softening by a temperature, by hand and against the loss that is trained."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdcore.losses.soft_targets import soft_targets as trained
from kdcore.probes.temperature import entropies, limit, soften

TEACHER, STUDENT = [3.0, -1.0, 0.5], [1.0, 0.0, 0.2]


def test_two_classes_by_hand() -> None:
    """Logits 2 ln 3 and 0 at T = 2 are odds of 3 to 1."""
    found = soften([2 * math.log(3), 0.0], [0.0, 0.0], 2.0)
    assert found.teacher == pytest.approx([0.75, 0.25]) and found.student == pytest.approx([0.5, 0.5])
    assert found.student_entropy == pytest.approx(math.log(2))
    assert found.kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert found.loss == pytest.approx(4 * found.kl)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_it_is_the_term_that_is_trained(temperature: float) -> None:
    row = [torch.tensor([logits], dtype=torch.float64) for logits in (STUDENT, TEACHER)]
    assert soften(TEACHER, STUDENT, temperature).loss == pytest.approx(float(trained(*row, temperature)), rel=1e-10)


def test_heat_keeps_the_order_raises_entropy_and_ends_in_a_squared_error() -> None:
    found = [soften(TEACHER, STUDENT, t) for t in (0.5, 1, 2, 5, 20, 1e4)]
    assert all(list(np.argsort(one.teacher)) == list(np.argsort(TEACHER)) for one in found)
    assert all(np.diff([one.teacher_entropy for one in found]) > 0)
    assert found[-1].teacher_entropy == pytest.approx(math.log(3), abs=1e-6)
    difference = np.subtract(TEACHER, STUDENT)
    assert limit(TEACHER, STUDENT) == pytest.approx(((difference - difference.mean()) ** 2).sum() / (2 * 3))
    assert found[-1].loss == pytest.approx(limit(TEACHER, STUDENT), rel=1e-3)


def test_equal_answers_are_no_loss_and_huge_logits_no_trouble() -> None:
    assert soften(TEACHER, TEACHER, 3.0).kl == 0.0
    assert soften([1e4, 0.0], [0.0, 1e4], 1.0).kl == pytest.approx(1e4)
    assert entropies([[0.0, 0.0], [1e4, 0.0]]) == pytest.approx([math.log(2), 0.0])


@pytest.mark.parametrize(
    ("teacher", "student", "temperature"),
    [([1.0], [1.0], 1), ([1.0, 2.0], [1.0], 1), ([1.0, 2.0], [1.0, math.nan], 1), ([1.0, 2.0], [2.0, 1.0], 0)],
)
def test_what_cannot_be_softened_is_refused(teacher: list[float], student: list[float], temperature: float) -> None:
    with pytest.raises(ValueError):
        soften(teacher, student, temperature)
