"""KroneckerBERT's loss: every term against loops over numbers, and which stage has which."""

import math

import pytest

from kdcore.errors import UserError
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=(
        {"imitate_share": 0.0, "embedding_weight": 0.0},
        {"hidden_weight": 0.0},
        {"attention_weight": 0.0, "soft_weight": 0.0},
        {"embedding_weight": 0.0, "attention_weight": 0.0, "hidden_weight": 0.0},
    ),
    trained=({"imitate_share": 0.5, "temperature": 4.0},),
    not_zero=frozenset({"hard"}),
)


def squared_states(step, ours: int, theirs: int) -> float:
    """Mean over width, valid tokens, rows."""
    a, b = step.student.hidden[ours].tolist(), step.teacher.hidden[theirs].tolist()
    total, lengths = 0.0, step.teacher.mask.sum(-1).tolist()
    for row, length in enumerate(lengths):
        for at in range(length):
            apart = [(x - y) ** 2 for x, y in zip(a[row][at], b[row][at], strict=True)]
            total += math.fsum(apart) / len(apart) / length / len(lengths)
    return total


def squared_scores(step, ours: int, theirs: int) -> float:
    """Mean over heads, valid tokens twice, rows."""
    a, b = step.student.scores[ours].tolist(), step.teacher.scores[theirs].tolist()
    total, lengths = 0.0, step.teacher.mask.sum(-1).tolist()
    for row, length in enumerate(lengths):
        for one, two in zip(a[row], b[row], strict=True):
            apart = [(one[p][q] - two[p][q]) ** 2 for p in range(length) for q in range(length)]
            total += math.fsum(apart) / length**2 / len(a[row]) / len(lengths)
    return total


def test_equals_loops_over_numbers(world):
    made = world("kronecker-bert", {"temperature": 2.0})
    step = made.step("distil")
    kd = world("kd", {"alpha": 0.5, "temperature": 2.0}).terms(step)
    expected = {
        "embedding": squared_states(step, 0, 0),
        "attention": sum(squared_scores(step, m, 2 * m) for m in (1, 2, 3)),
        "hidden": sum(squared_states(step, m, 2 * m) for m in (1, 2, 3)),
        "soft": kd["soft"],
        "hard": kd["hard"],
    }
    found = made.terms(step)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-10), name


def test_weights_enter_the_sum(world):
    options = {"embedding_weight": 2.0, "attention_weight": 3.0, "hidden_weight": 5.0, "soft_weight": 7.0}
    made = world("kronecker-bert", options | {"hard_weight": 11.0})
    step = made.step("distil")
    weights = dict(zip(("embedding", "attention", "hidden", "soft", "hard"), (2, 3, 5, 7, 11), strict=True))
    expected = sum(weights[name] * value for name, value in made.terms(step).items())
    assert made.loss(step).item() == pytest.approx(expected, rel=1e-10)


def test_the_first_stage_reads_no_answers(world):
    made = world("kronecker-bert")
    first, last = made.method.stages()
    assert (first.name, last.name) == ("imitate", "distil") and first.share + last.share == 1.0
    assert "logits" not in {**first.needs.student, **first.needs.teacher} and first.judge == "loss"
    step = made.step("imitate")
    assert list(made.method.imitate(step)) == ["embedding", "attention", "hidden"]
    assert [s.name for s in world("kronecker-bert", {"imitate_share": 0.0}).method.stages()] == ["distil"]


def test_equally_deep_models_match_layer_by_layer(world, shape):
    made = world("kronecker-bert", teachers={"big": shape(3)})
    assert made.method.map == {0: 0, 1: 1, 2: 2, 3: 3}


def test_other_widths_and_heads_are_refused(world, shape):
    with pytest.raises(UserError, match="width"):
        world("kronecker-bert", teachers={"big": shape(3, width=12)})
    alone = dict.fromkeys(("embedding_weight", "attention_weight", "hidden_weight"), 0.0)
    made = world("kronecker-bert", alone, teachers={"big": shape(3, width=12)})
    assert list(made.terms(made.step())) == ["soft", "hard"] and not made.method.map
