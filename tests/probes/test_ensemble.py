"""Three teachers on four rows, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kdcore.probes import ensemble

GOLD = np.array([0, 1, 1, 0])
P = {
    "large": [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]],
    "medium": [[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.6, 0.4]],
    "small": [[0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.1, 0.9]],
}
WEIGHTS = {"large": 0.5, "medium": 0.3, "small": 0.2}
MEAN = [[0.81, 0.19], [0.34, 0.66], [0.43, 0.57], [0.55, 0.45]]
"""Such as 0.5 * 0.9 + 0.3 * 0.8 + 0.2 * 0.6 = 0.81."""


@pytest.fixture
def answers():
    return {name: np.log(p) for name, p in P.items()}


@pytest.fixture
def mixed(answers):
    return ensemble.mix(answers, WEIGHTS)


def test_the_mixture_is_the_weighted_mean(mixed):
    assert np.exp(mixed.mixture) == pytest.approx(np.array(MEAN))
    assert not mixed.regression


def test_a_shift_of_logits_changes_nothing(answers):
    moved = {name: logits + 7 * place for place, (name, logits) in enumerate(answers.items())}
    assert ensemble.mix(moved, WEIGHTS).mixture == pytest.approx(ensemble.mix(answers, WEIGHTS).mixture)


def test_a_temperature_flattens_each_teacher_before_the_mean(answers):
    mixed = ensemble.mix(answers, WEIGHTS, 2.0)
    root = {name: [math.sqrt(p) / (math.sqrt(p) + math.sqrt(1 - p)) for p, _ in rows] for name, rows in P.items()}
    first = [sum(WEIGHTS[name] * root[name][row] for name in P) for row in range(4)]
    assert np.exp(mixed.mixture)[:, 0] == pytest.approx(first)


def test_shares_are_the_parts_of_the_label_that_the_mixture_gives(mixed):
    shares = ensemble.shares(mixed)
    assert shares.loc[0].tolist() == pytest.approx([0.45 / 0.81, 0.24 / 0.81, 0.12 / 0.81])
    assert shares.loc[1].tolist() == pytest.approx([0.40 / 0.66, 0.12 / 0.66, 0.14 / 0.66])
    assert shares.sum(axis=1).tolist() == pytest.approx([1.0] * 4)


def test_who_is_against_the_mixture(mixed):
    against = ensemble.dissent(mixed)
    assert [list(against.columns[row]) for row in against.to_numpy()] == [[], ["medium"], ["large"], ["small"]]
    rows = ensemble.rows(mixed)
    assert rows["agree"].tolist() == [True, False, False, False] and rows["against"].tolist() == [0, 1, 1, 1]
    mean = np.mean([P[name][3] for name in P], axis=0)
    by_hand = np.mean([sum(p * math.log(p / m) for p, m in zip(P[name][3], mean, strict=True)) for name in P])
    assert rows["disagreement"][3] == pytest.approx(by_hand)


def test_the_mixture_is_right_where_no_teacher_always_is(mixed):
    table = ensemble.quality(GOLD, {**mixed.teachers, "mixture": mixed.mixture})
    assert table["accuracy"].tolist() == [0.75, 0.75, 0.75, 1.0]
    nll = -sum(math.log(p) for p in (0.81, 0.66, 0.57, 0.55)) / 4
    assert table.loc["mixture", "nll"] == pytest.approx(nll)
    assert ensemble.best_teacher(table, P) == "large", "all are right as often; its NLL is the smallest"


def test_scores_are_averaged_and_judged_by_their_error():
    answers = {"one": [[1.0], [3.0]], "other": [[2.0], [5.0]]}
    mixed = ensemble.mix(answers, {"one": 0.25, "other": 0.75}, 4.0)
    assert mixed.regression and mixed.mixture[:, 0].tolist() == [1.75, 4.5]
    assert ensemble.shares(mixed).loc[0].tolist() == [0.25, 0.75]
    assert not ensemble.dissent(mixed).to_numpy().any()
    table = ensemble.quality([2.0, 4.0], {**mixed.teachers, "mixture": mixed.mixture})
    assert table["error"].tolist() == [1.0, 0.5, 0.375]
    assert ensemble.best_teacher(table, answers) == "other"
    assert ensemble.rows(mixed)["disagreement"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("weights", "temperature"), [({"large": 1.0}, 1.0), (WEIGHTS, 0.0)])
def test_what_cannot_be_mixed_is_refused(answers, weights, temperature):
    with pytest.raises(ValueError, match="weights"):
        ensemble.mix(answers, weights, temperature)


def test_a_teacher_of_no_weight_does_not_count(answers):
    mixed = ensemble.mix(answers, {"large": 1.0, "medium": 0.0, "small": 0.0})
    assert np.exp(mixed.mixture) == pytest.approx(np.array(P["large"]))
    assert ensemble.shares(mixed).loc[2].tolist() == [1.0, 0.0, 0.0]
