from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from kdcore.probes.fidelity import compare


def slow_kl(teacher, student):
    """KL(teacher || student), mean over rows, one number at a time."""
    total = 0.0
    for t_row, s_row in zip(teacher, student, strict=True):
        p = [math.exp(v) / sum(math.exp(w) for w in t_row) for v in t_row]
        q = [math.exp(v) / sum(math.exp(w) for w in s_row) for v in s_row]
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    return total / len(teacher)


def test_by_hand_and_by_a_slow_loop():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(20, 3)) * 2, rng.normal(size=(20, 3))
    found = compare(teacher, student, regression=False)
    assert found["kl"] == pytest.approx(slow_kl(teacher, student), rel=1e-12)
    assert found["agreement"] == sum(t.argmax() == s.argmax() for t, s in zip(teacher, student, strict=True)) / 20
    hand = compare([[0.0, 0.0]], [[math.log(3.0), 0.0]], regression=False)
    assert hand["kl"] == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))


def test_the_direction_is_teacher_to_student():
    sharp, flat = [[4.0, 0.0]], [[0.5, 0.0]]
    assert compare(sharp, flat, False)["kl"] != pytest.approx(compare(flat, sharp, False)["kl"], rel=0.05)
    assert compare(sharp, flat, False)["kl"] == pytest.approx(slow_kl(sharp, flat))


def test_equal_logits_up_to_a_shift_are_perfect():
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    assert compare(logits, logits + 3, regression=False) == {"agreement": 1.0, "kl": pytest.approx(0.0, abs=1e-7)}


def test_huge_logits_stay_finite():
    found = compare([[1e4, -1e4]], [[-1e4, 1e4]], regression=False)
    assert found["agreement"] == 0.0 and found["kl"] == pytest.approx(2e4)


def test_regression():
    rng = np.random.default_rng(1)
    teacher, student = rng.normal(size=(30, 1)), rng.normal(size=30)
    found = compare(teacher, student, regression=True)
    assert found["pearson"] == pytest.approx(pearsonr(teacher[:, 0], student).statistic, rel=1e-12)
    assert found["mse"] == pytest.approx(sum((a - b) ** 2 for a, b in zip(teacher[:, 0], student, strict=True)) / 30)
    assert compare(teacher, 2 * teacher + 1, True)["pearson"] == pytest.approx(1.0)
    assert compare(teacher, np.full(30, 0.1), True)["pearson"] == 0.0


def test_other_rows_or_none_are_refused():
    for teacher, student in [(np.zeros((3, 2)), np.zeros((2, 2))), (np.zeros((0, 2)), np.zeros((0, 2)))]:
        with pytest.raises(ValueError, match="same rows"):
            compare(teacher, student, regression=False)
