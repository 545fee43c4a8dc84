from __future__ import annotations

import numpy as np
import pytest

from kdcore.probes.calibration import measure


def logits_of(probabilities):
    return np.log(np.asarray(probabilities))


def slow(probabilities, labels, bins):
    """ECE, Brier score and negative log-likelihood, a row at a time."""
    members = {index: [] for index in range(bins)}
    brier = 0.0
    for row, label in zip(probabilities, labels, strict=True):
        sure = max(row)
        for index in range(bins):
            if index / bins < sure <= (index + 1) / bins:
                members[index].append((sure, int(np.argmax(row)) == label))
        brier += sum((p - (c == label)) ** 2 for c, p in enumerate(row))
    gaps = [abs(sum(s for s, _ in m) - sum(r for _, r in m)) for m in members.values()]
    nll = -sum(np.log(row[label]) for row, label in zip(probabilities, labels, strict=True))
    return sum(gaps) / len(labels), brier / len(labels), nll / len(labels)


def test_against_a_slow_loop():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.7] * 3, size=200)
    labels = rng.integers(0, 3, size=200)
    for bins in (15, 4):
        found = measure(logits_of(probabilities), labels, bins)
        ece, brier, nll = slow(probabilities, labels, bins)
        assert found.nll == pytest.approx(nll, rel=1e-9)
        assert found.ece == pytest.approx(ece, rel=1e-9) and found.brier == pytest.approx(brier, rel=1e-9)
        assert len(found.bins) == bins and sum(bin.rows for bin in found.bins) == 200


def test_by_hand():
    found = measure(logits_of([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.4, 0.6]]), [0, 1, 0, 0], bins=5)
    # (0.4, 0.6]: two rows at 0.6, one right; (0.6, 0.8]: two at 0.8, one right
    assert found.ece == pytest.approx(0.5 * abs(0.5 - 0.6) + 0.5 * abs(0.5 - 0.8))
    assert found.brier == pytest.approx((0.08 + 1.28 + 0.32 + 0.72) / 4)


def test_sure_and_right_is_perfect_and_sure_and_wrong_is_worst():
    sure = np.array([[50.0, -50.0], [-50.0, 50.0]])
    assert measure(sure, [0, 1]).ece == pytest.approx(0.0) and measure(sure, [0, 1]).brier == pytest.approx(0.0)
    assert measure(sure, [0, 1]).nll == 0.0 and measure(sure, [1, 0]).nll == pytest.approx(100.0)
    assert measure(sure, [1, 0]).ece == pytest.approx(1.0) and measure(sure, [1, 0]).brier == pytest.approx(2.0)


def test_data_is_plain():
    data = measure([[1.0, 0.0]], [0]).data()
    assert set(data) == {"ece", "brier", "nll", "bins"} and isinstance(data["bins"][0]["rows"], int)


@pytest.mark.parametrize(
    ("logits", "labels"), [([[1.0, 0.0]], [2]), ([[1.0]], [0]), ([[1.0, 0.0]], [0, 1]), (np.zeros((0, 2)), [])]
)
def test_what_makes_no_sense_is_refused(logits, labels):
    with pytest.raises(ValueError, match=r"labels"):
        measure(logits, labels)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    found = measure([[0.0, 0.0]], [0], bins=2)
    assert [bin.rows for bin in found.bins] == [1, 0]
