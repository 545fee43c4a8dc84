"""DistilBERT's loss at fine-tuning. The card's invariant 10 (initial layers) is the student builder's, not a loss's."""

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import resolve


def hidden(step):
    return step.student.hidden[3].detach(), step.teacher.hidden[6]


def with_states(step, replaced, student=None, teacher=None):
    ours, theirs = step.student, step.teacher
    student = ours.hidden[3] if student is None else student
    teacher = theirs.hidden[6] if teacher is None else teacher
    return replaced(
        step,
        students={"student": type(ours)({"logits": ours.logits, "hidden": {3: student}}, ours.mask)},
        teachers={"big": type(theirs)({"logits": theirs.logits, "hidden": {6: teacher}}, theirs.mask)},
    )


def test_terms_are_kd_and_a_cosine_written_out(world):
    made = world("distilbert", {"alpha": 0.6, "temperature": 3.0, "cosine_weight": 0.25})
    step = made.step()
    (ours, theirs), total = hidden(step), 0.0
    for b, length in enumerate(step.student.mask.sum(1).tolist()):
        cosines = [
            float(ours[b, i] @ theirs[b, i]) / float(ours[b, i].norm() * theirs[b, i].norm()) for i in range(length)
        ]
        total += sum(1 - c for c in cosines) / length
    assert made.terms(step)["cosine"] == pytest.approx(total / len(step.batch), rel=1e-10)
    kd = world("kd", {"alpha": 0.6, "temperature": 3.0})
    expected = kd.loss(step) + 0.25 * total / len(step.batch)
    assert made.loss(step).item() == pytest.approx(expected.item(), rel=1e-10)


def test_reads_the_last_layers_only(world):
    needs = world("distilbert").stage().needs
    assert needs.student == {"logits": (), "hidden": (3,)} and needs.teacher == {"logits": (), "hidden": (6,)}


def test_cosine_is_zero_where_states_are_parallel_and_bounded(world, replaced):
    made = world("distilbert")
    step = made.step()
    parallel = with_states(step, replaced, student=3.0 * step.teacher.hidden[6])
    opposite = with_states(step, replaced, student=-step.teacher.hidden[6])
    assert made.terms(parallel)["cosine"] == pytest.approx(0.0, abs=1e-9)
    assert made.terms(opposite)["cosine"] == pytest.approx(2.0)


def test_scaling_the_students_states_changes_nothing(world, replaced):
    made = world("distilbert")
    step = made.step()
    scaled = with_states(step, replaced, student=0.01 * step.student.hidden[3])
    assert made.loss(scaled).item() == pytest.approx(made.loss(step).item(), rel=1e-9)


def test_states_at_padding_change_nothing(world, replaced):
    made = world("distilbert")
    step = made.step()
    padding = ~step.student.mask.bool()[..., None]
    changed = with_states(
        step,
        replaced,
        student=step.student.hidden[3].masked_fill(padding, 77.0),
        teacher=step.teacher.hidden[6].masked_fill(padding, -5.0),
    )
    assert made.loss(changed).item() == pytest.approx(made.loss(step).item(), rel=1e-12)


def test_without_the_cosine_it_is_kd_and_reads_no_states(world):
    options = {"alpha": 0.4, "temperature": 2.0}
    made = world("distilbert", {**options, "cosine_weight": 0.0})
    assert made.stage().needs.student == {"logits": ()} == made.stage().needs.teacher
    step = made.step()
    assert torch.equal(made.loss(step), world("kd", options).loss(step))


def test_default_weights_are_the_authors_five_to_two_to_one():
    config = resolve("distilbert", {})[1]
    weights = config.alpha, 1 - config.alpha, config.cosine_weight
    assert weights == pytest.approx((5 / 7, 2 / 7, 1 / 7), abs=0.01) and config.temperature == 2.0


def test_widths_that_differ_are_refused_unless_states_are_not_compared(world, shape):
    with pytest.raises(UserError, match=r"student\.width.*8.*16.*big"):
        world("distilbert", teachers={"big": shape(6, width=16)})
    world("distilbert", {"cosine_weight": 0.0}, teachers={"big": shape(6, width=16)})


def test_layer_map_joins_the_last_layers(shape):
    method, config = resolve("distilbert", {})
    assert method.layer_map(config, shape(3), shape(12)) == {3: 12}
    assert method.layer_map(resolve("distilbert", {"cosine_weight": 0})[1], shape(3), shape(12)) == {}
