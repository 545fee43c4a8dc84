"""MiniLM: the card's invariants for the first version, and its loss from the equations.

Numbers 2 (rows sum to 1), 8 (direction) and 9 (a batch of one, and of two copies) are also tested with the losses, and
6 (padding) by the contract. Number 7 compares with MiniLMv2 and stands in its test.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from kdcore.errors import UserError
from kdcore.methods import METHODS, resolve
from kdcore.records import Outputs
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(variants=({"value_weight": 0.0},))

UNTRAINED = (
    "bert.encoder.layer.1.attention.output",
    "bert.encoder.layer.1.intermediate",
    "bert.encoder.layer.1.output",
    "bert.pooler",
    "classifier",
)
"""What the relations give no gradient to, of a student of two layers."""


def relations(made, step):
    return made.stage("relations").terms(step)


def kl(p, q):
    return (p * (p.log() - q.log())).sum(-1)


def reference(step, of):
    """Sequence by sequence, with nothing of the padding: the mean over heads and tokens of KL(teacher || student)."""
    rows = []
    for row, length in enumerate(step.student.mask.sum(-1).tolist()):
        p, q = of(step.teacher, 6, row, length), of(step.student, 3, row, length)
        rows.append(kl(p, q).mean())
    return torch.stack(rows).mean().item()


def attends(outputs, layer, row, length):
    return outputs.attention[layer][row, :, :length, :length]


def relates_values(outputs, layer, row, length):
    v = outputs.values[layer][row, :, :length]
    return (v @ v.transpose(-1, -2) / v.shape[-1] ** 0.5).softmax(-1)


@pytest.mark.parametrize("width", [8, 12])
def test_relations_equal_the_equations(world, shape, width):
    made = world("minilm", {"value_weight": 3.0}, teachers={"big": shape(6, width=width)})
    step = made.step("relations")
    terms = relations(made, step)
    assert terms["attention"].value.item() == pytest.approx(reference(step, attends), rel=1e-10)
    assert terms["values"].value.item() == pytest.approx(reference(step, relates_values), rel=1e-10)
    assert {name: term.weight for name, term in terms.items()} == {"attention": 1.0, "values": 3.0}


@pytest.mark.parametrize("regression", [False, True])
def test_prediction_equals_the_equations(world, regression):
    made = world("minilm", {"alpha": 0.3, "temperature": 5.0}, regression=regression)
    step = made.step()
    s, t, y = step.student.logits, step.teacher.logits, step.batch.labels
    if regression:
        expected = 0.7 * ((s[:, 0] - y) ** 2).mean() + 0.3 * ((s - t) ** 2).mean()
    else:
        soft = 25 * kl((t / 5).softmax(-1), (s / 5).softmax(-1)).mean()
        expected = 0.7 * F.cross_entropy(s, y) + 0.3 * soft
    assert made.loss(step).item() == pytest.approx(expected.item(), rel=1e-10)
    plain = world("minilm", {"alpha": 0.0}, regression=regression)
    assert torch.equal(plain.loss(step), world("fine-tune", regression=regression).loss(step))


def test_two_stages_read_the_last_layers_and_then_the_logits(world, shape):
    first, second = world("minilm", {"relation_share": 0.2}).method.stages()
    assert first.needs.student == {"attention": (3,), "values": (3,)}
    assert first.needs.teacher == {"attention": (6,), "values": (6,)}
    assert second.needs.student == second.needs.teacher == {"logits": ()}
    assert (first.name, first.share, first.judge) == ("relations", 0.2, "loss")
    assert (second.name, second.share, second.judge, second.start) == ("predict", 0.8, "score", "last")
    method, config = resolve("minilm", {})
    assert method.layer_map(config, shape(3), shape(6)) == {3: (6,)}
    assert METHODS["minilm"].teachers == (1, 1)


def test_without_the_values_only_attention_is_read(world):
    made = world("minilm", {"value_weight": 0.0})
    assert made.stage("relations").needs.student == {"attention": (3,)}
    assert set(relations(made, made.step("relations"))) == {"attention"}


def test_zero_where_the_student_is_the_teacher(world, replaced):
    made = world("minilm")
    step = made.step("relations")
    said = {name: {6: getattr(step.student, name)[3].detach()} for name in ("attention", "values")}
    same = replaced(step, teachers={"big": Outputs(said, step.student.mask)})
    for term in relations(made, same).values():
        assert term.value.item() == pytest.approx(0.0, abs=1e-14)


def test_values_may_be_rotated_within_a_head(world, replaced):
    made = world("minilm")
    step = made.step("relations")
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(2, 4, 4, generator=generator, dtype=torch.float64))[0]
    teacher = step.teacher
    said = {"attention": teacher.attention, "values": {6: teacher.values[6] @ turn}}
    turned = relations(made, replaced(step, teachers={"big": Outputs(said, teacher.mask)}))
    assert turned["values"].value.item() == pytest.approx(relations(made, step)["values"].value.item(), rel=1e-10)


def test_gradient_flows_through_the_student_alone_and_never_from_padding(world):
    made = world("minilm")
    step = made.step("relations")
    sum(term.value for term in relations(made, step).values()).backward()
    valid = step.student.mask.bool()
    for gradient in (step.student.attention[3].grad, step.student.values[3].grad):
        assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0
        assert (gradient.transpose(1, 2)[~valid] == 0).all()
    assert not step.teacher.attention[6].requires_grad and not step.teacher.values[6].requires_grad


def test_other_numbers_of_heads_are_refused_and_other_widths_are_not(world, shape):
    world("minilm", teachers={"wide": shape(6, width=16)})
    with pytest.raises(UserError, match=r"student\.heads.*2 heads differ from 4 of teacher big.*student 4 heads"):
        world("minilm", teachers={"big": replace(shape(6), heads=4)})


@pytest.mark.parametrize(
    ("options", "untrained"),
    [({}, UNTRAINED), ({"value_weight": 0.0}, (*UNTRAINED, "bert.encoder.layer.1.attention.self.value"))],
)
def test_relations_leave_the_end_of_the_student_untrained(options, untrained):
    """It gets no gradient, so AdamW passes over it, weight decay included; the prediction then trains everything."""
    bench = Bench(("minilm", options, "classification", 1))
    student = bench.students["student"]
    before = {name: p.clone() for name, p in student.named_parameters()}
    first, second = bench.ready()
    losses = bench.train(first, 3, bench.batch())
    assert losses[-1] < losses[0]
    for name, p in student.named_parameters():
        assert (p.grad is None) == name.startswith(untrained), name
        assert torch.equal(p, before[name]) == name.startswith(untrained), name
    bench.train(second, 1, bench.batch())
    assert all(p.grad is not None for p in student.parameters())
