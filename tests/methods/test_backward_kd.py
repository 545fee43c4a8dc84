"""Backward KD: points where student and teacher differ more, by its card.

Its point 4 is in tests/models/test_observe.py. In float64 padding changes nothing by more than 1e-13; the contract's
float32 allows two long steps no such closeness, so that its variant has short ones.
"""

import math
from dataclasses import replace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods.backward_kd import _slope
from tests.methods.contract import Contract

CONTRACT = Contract(variants=({"auxiliary_weight": 0.0}, {"ascent_steps": 2, "step_length": 1e-3}))


def words_of(made, ids):
    return [made.models[name].bert.embeddings.word_embeddings.weight.detach()[ids] for name in ("student", "big")]


def slow_answers(made, words, move) -> list[torch.Tensor]:
    """Logits [classes] of student and teacher at one row without padding, its words moved."""
    return [
        made.models[name](inputs_embeds=(vectors + move)[None]).logits[0]
        for name, vectors in zip(("student", "big"), words, strict=True)
    ]


def slow_move(made, ids, steps: int, length: float) -> torch.Tensor:
    """The movement of one row's words [tokens, width], as the equation has it."""
    words = words_of(made, ids)
    move = torch.zeros_like(words[0])
    for _ in range(steps):
        move = move.detach().requires_grad_()
        ours, theirs = slow_answers(made, words, move)
        ((ours - theirs) ** 2).sum().backward()
        vectors, slopes = (words[0] + move).tolist(), move.grad.tolist()
        size, steep = (math.sqrt(sum(x * x for row in rows for x in row)) for rows in (vectors, slopes))
        further = [[length * size * x / steep for x in row] for row in slopes]
        move = move.detach() + torch.tensor(further, dtype=torch.float64)
    return move.detach()


def slow_auxiliary(made, step, temperature: float, steps: int, length: float, regression: bool = False) -> float:
    total = 0.0
    for row in range(len(step.batch)):
        ids = step.batch.encoding.input_ids[row][step.batch.encoding.attention_mask[row].bool()]
        move = slow_move(made, ids, steps, length)
        with torch.no_grad():
            ours, theirs = slow_answers(made, words_of(made, ids), move)
        if regression:
            total += float((ours - theirs) ** 2)
        else:
            p, q = ((logits / temperature).softmax(-1).tolist() for logits in (theirs, ours))
            total += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(step.batch)


@pytest.mark.parametrize("steps", [1, 3])
def test_equals_the_equations(world, steps):
    options = {"alpha": 0.3, "temperature": 3.0}
    made = world("backward-kd", options | {"auxiliary_weight": 1.7, "ascent_steps": steps, "step_length": 0.2})
    step = made.step()
    expected = slow_auxiliary(made, step, 3.0, steps, 0.2)
    assert expected > 1e-3
    assert made.terms(step)["auxiliary"] == pytest.approx(expected, rel=1e-10)
    kd = world("kd", options)
    assert made.loss(step).item() == pytest.approx(kd.loss(step).item() + 1.7 * expected, rel=1e-10)


def test_scores_are_compared_by_their_squared_difference(world):
    made = world("backward-kd", regression=True)
    step = made.step()
    assert made.terms(step)["auxiliary"] == pytest.approx(slow_auxiliary(made, step, 2.0, 1, 0.1, True), rel=1e-10)


def distance(step, ours, theirs) -> torch.Tensor:
    """D of each row, [batch]."""
    pair = [said.rerun(words=words).logits.detach() for said, words in ((step.student, ours), (step.teacher, theirs))]
    return (pair[0] - pair[1]).square().mean(-1)


def start(step):
    ids = step.batch.encoding.input_ids
    return [said.look_up(ids).detach() for said in (step.student, step.teacher)]


def test_steps_of_no_length_leave_every_row_where_it_is(world):
    made = world("backward-kd", {"step_length": 0.0, "ascent_steps": 3})
    step = made.step()
    for moved, before in zip(made.method._points(step), start(step), strict=True):
        assert torch.equal(moved, before)


def test_a_small_step_gains_what_the_gradient_says(world):
    """First order: the gain over a row's step times the length of its gradient tends to 1."""
    made = world("backward-kd", {"step_length": 1e-6})
    step = made.step()
    ours, theirs = start(step)
    before, after = distance(step, ours, theirs), distance(step, *made.method._points(step))
    valid = step.student.mask[..., None]
    steps = 1e-6 * (valid * ours).flatten(1).norm(dim=-1) * _slope(step, ours, theirs).flatten(1).norm(dim=-1)
    torch.testing.assert_close((after - before) / steps, torch.ones_like(before), rtol=1e-3, atol=0)


def test_both_models_words_move_alike_and_padding_stays(world):
    made = world("backward-kd", {"ascent_steps": 2})
    step = made.step()
    moves = [moved - before for moved, before in zip(made.method._points(step), start(step), strict=True)]
    torch.testing.assert_close(*moves)
    moved = moves[0].norm(dim=-1) > 0
    assert torch.equal(moved, step.student.mask.bool())


def test_more_steps_find_rows_that_differ_more(world):
    gains = []
    for steps in (1, 2, 5):
        made = world("backward-kd", {"ascent_steps": steps, "step_length": 2e-4})
        step = made.step()
        gains.append(distance(step, *made.method._points(step)).mean() / distance(step, *start(step)).mean())
    assert 1 < gains[0] < gains[1] < gains[2]


def test_where_student_is_teacher_nothing_moves(world, shape):
    made = world("backward-kd", teachers={"big": shape(3)})
    step = made.step()
    assert not torch.equal(made.method._points(step)[0], start(step)[0])
    made.models["big"].load_state_dict(made.models["student"].state_dict())
    made.models["student"].requires_grad_(False)  # what learns rounds otherwise, and a direction has no size
    for moved, before in zip(made.method._points(step), start(step), strict=True):
        assert torch.equal(moved, before)


def test_the_search_leaves_no_trace(world):
    made = world("backward-kd", {"ascent_steps": 2})
    step = made.step()
    before = [parameter.clone() for model in made.models.values() for parameter in model.parameters()]
    made.method._points(step)
    after = [parameter for model in made.models.values() for parameter in model.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))


def test_the_student_learns_at_the_points_and_its_words_and_the_teacher_do_not(world):
    made = world("backward-kd")
    made.method.terms(made.step())["auxiliary"].value.backward()
    student = made.models["student"]
    assert all(layer.output.dense.weight.grad.any() for layer in student.bert.encoder.layer)
    assert student.bert.embeddings.word_embeddings.weight.grad is None
    assert all(parameter.grad is None for parameter in made.models["big"].parameters())


def test_labels_are_in_the_hard_term_alone(world, replaced):
    made = world("backward-kd")
    step = made.step()
    other = replaced(step, batch=replace(step.batch, labels=(step.batch.labels + 1) % 3))
    one, two = made.terms(step), made.terms(other)
    assert one.pop("hard") != two.pop("hard") and one == two


def test_without_its_term_it_is_kd_bit_for_bit_at_any_width(world, shape):
    narrow = {"teachers": {"big": shape(6, width=12)}}
    made = world("backward-kd", {"auxiliary_weight": 0.0, "alpha": 0.4}, **narrow)
    assert not made.stage().needs.rerun
    kd = world("kd", {"alpha": 0.4, "temperature": 2.0}, **narrow)
    assert torch.equal(made.loss(made.step()), kd.loss(kd.step()))
    with pytest.raises(UserError, match=r"student\.width.*8 dimensions.*big 12.*auxiliary_weight to 0"):
        world("backward-kd", **narrow)


def test_passes_are_declared_as_they_are_run(world):
    needs = world("backward-kd", {"ascent_steps": 3}).stage().needs
    assert (needs.passes, needs.gradients, needs.order) == (4, 1, 1)
