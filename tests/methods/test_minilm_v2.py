"""MiniLMv2: the card's invariants for the second version, and its loss from the equations.

Numbers 2 (rows sum to 1) and 9 (a batch of one, and of two copies) are tested with the losses, and 6 (padding) by the
contract.
"""

from dataclasses import replace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import METHODS, resolve
from kdcore.records import Outputs
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench
from tests.methods.test_minilm import UNTRAINED

CONTRACT = Contract(variants=({"relation_heads": 4, "teacher_layer": 2}, {"query_weight": 0.0, "key_weight": 2.0}))

NAMES = ("queries", "keys", "values")


def relations(made, step):
    return made.stage("relations").terms(step)


def related(heads_apart, row, length, relation_heads):
    """softmax(X_a X_a^T / sqrt(d / r)) of one sequence: the heads side by side, cut again into r blocks."""
    flat = torch.cat(list(heads_apart[row, :, :length]), dim=-1)
    blocks = torch.stack(flat.chunk(relation_heads, dim=-1))
    return (blocks @ blocks.transpose(-1, -2) / blocks.shape[-1] ** 0.5).softmax(-1)


def reference(step, name, relation_heads, teacher_layer=6):
    rows = []
    for row, length in enumerate(step.student.mask.sum(-1).tolist()):
        p = related(getattr(step.teacher, name)[teacher_layer], row, length, relation_heads)
        q = related(getattr(step.student, name)[3], row, length, relation_heads)
        rows.append((p * (p.log() - q.log())).sum(-1).mean())
    return torch.stack(rows).mean().item()


@pytest.mark.parametrize(("relation_heads", "layer"), [(0, 0), (1, 6), (2, 4), (4, 1)])
def test_relations_equal_the_equations(world, shape, relation_heads, layer):
    """Also with other widths and numbers of heads: blocks straddle or split heads."""
    options = {"relation_heads": relation_heads, "teacher_layer": layer, "query_weight": 0.5, "value_weight": 2.0}
    made = world("minilm-v2", options, student=replace(shape(3), heads=1), teachers={"big": shape(6, width=12)})
    step = made.step("relations")
    terms = relations(made, step)
    for name in NAMES:
        expected = reference(step, name, relation_heads or 1, layer or 6)
        assert terms[name].value.item() == pytest.approx(expected, rel=1e-10), name
    assert [terms[name].weight for name in NAMES] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("regression", [False, True])
def test_prediction_is_that_of_kd(world, regression):
    options = {"alpha": 0.3, "temperature": 5.0}
    made, kd = (world(key, options, regression=regression) for key in ("minilm-v2", "kd"))
    step = made.step()
    assert torch.equal(made.loss(step), kd.loss(step))
    plain, fine_tune = (world(*key, regression=regression) for key in (("minilm-v2", {"alpha": 0.0}), ("fine-tune",)))
    assert torch.equal(plain.loss(step), fine_tune.loss(step))


@pytest.mark.parametrize(
    ("student", "teacher", "heads"),
    [
        (768, 768, 48),
        (384, 768, 48),
        (384, 1024, 64),
        (1024, 1024, 64),
        (312, 768, 24),
        (128, 256, 16),
        (256, 128, 8),
        (8, 8, 1),
        (100, 81, 1),
    ],
)
def test_automatic_relation_heads(world, shape, student, teacher, heads):
    """Blocks of 16 of the teacher's width, as the paper's are said to be, or wider where that does not divide."""
    ours, theirs = (replace(shape(3, width=width), heads=1) for width in (student, teacher))
    made = world("minilm-v2", student=ours, teachers={"big": theirs})
    assert made.method.heads == heads
    assert student % heads == teacher % heads == 0 and (heads == 1 or teacher / heads >= 16)


def test_what_does_not_fit_is_refused(world, shape):
    with pytest.raises(UserError, match=r"options\.relation_heads.*3 relation heads.*8.*16.*divisor of 8, or 0 for 1"):
        world("minilm-v2", {"relation_heads": 3}, teachers={"big": shape(6, width=16)})
    with pytest.raises(UserError, match=r"options\.relation_heads"):
        world("minilm-v2", {"relation_heads": 16}, teachers={"big": shape(6, width=16)})
    with pytest.raises(UserError, match=r"options\.teacher_layer.*layers 1 to 6, not 7"):
        world("minilm-v2", {"teacher_layer": 7})
    with pytest.raises(UserError, match=r"options\.query_weight.*all 0"):
        world("minilm-v2", {"query_weight": 0, "key_weight": 0, "value_weight": 0})


def test_numbers_of_heads_may_differ(world, shape):
    made = world("minilm-v2", teachers={"big": replace(shape(6), heads=4)})
    assert all(torch.isfinite(term.value) for term in relations(made, made.step("relations")).values())


def test_two_stages_read_one_layer_and_then_the_logits(world, shape):
    first, second = world("minilm-v2", {"teacher_layer": 5, "key_weight": 0.0}).method.stages()
    assert first.needs.student == {"queries": (3,), "values": (3,)}
    assert first.needs.teacher == {"queries": (5,), "values": (5,)}
    assert second.needs.student == second.needs.teacher == {"logits": ()}
    assert (first.name, first.share, first.judge) == ("relations", 0.5, "loss")
    assert (second.name, second.share, second.judge, second.start) == ("predict", 0.5, "score", "last")
    for layer, expected in ((0, 6), (2, 2)):
        method, config = resolve("minilm-v2", {"teacher_layer": layer})
        assert method.layer_map(config, shape(3), shape(6)) == {3: (expected,)}
    assert METHODS["minilm-v2"].teachers == (1, 1)


@pytest.mark.parametrize("relation_heads", [1, 2, 4, 8])
def test_zero_where_the_student_is_the_teacher(world, replaced, relation_heads):
    made = world("minilm-v2", {"relation_heads": relation_heads})
    step = made.step("relations")
    said = {name: {6: getattr(step.student, name)[3].detach()} for name in NAMES}
    same = replaced(step, teachers={"big": Outputs(said, step.student.mask)})
    assert all(term.value.item() == 0.0 for term in relations(made, same).values())


def test_as_many_relation_heads_as_attention_heads_give_the_value_relations_of_the_first_version(world):
    made, first = world("minilm-v2", {"relation_heads": 2}), world("minilm")
    step = first.step("relations")
    tensors = {**dict.fromkeys(NAMES, step.student.values), "attention": step.student.attention}
    said = {**dict.fromkeys(NAMES, step.teacher.values), "attention": step.teacher.attention}
    both = replace(
        step,
        students={"student": Outputs(tensors, step.student.mask)},
        teachers={"big": Outputs(said, step.teacher.mask)},
    )
    assert torch.equal(relations(made, both)["values"].value, relations(first, both)["values"].value)
    whole = world("minilm-v2", {"relation_heads": 1})
    assert not torch.equal(relations(whole, both)["values"].value, relations(first, both)["values"].value)


def test_blocks_may_be_rotated(world, replaced):
    made = world("minilm-v2", {"relation_heads": 4})
    step = made.step("relations")
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)  # blocks of 2 in heads of 4
    said = {name: {6: getattr(step.teacher, name)[6] @ torch.block_diag(turn, turn)} for name in NAMES}
    turned = relations(made, replaced(step, teachers={"big": Outputs(said, step.teacher.mask)}))
    for name, term in relations(made, step).items():
        assert turned[name].value.item() == pytest.approx(term.value.item(), rel=1e-10)


def test_gradient_flows_through_the_student_alone_and_the_direction_matters(world, replaced):
    made = world("minilm-v2", {"relation_heads": 2})
    step = made.step("relations")
    terms = relations(made, step)
    sum(term.value for term in terms.values()).backward()
    valid = step.student.mask.bool()
    for name in NAMES:
        gradient = getattr(step.student, name)[3].grad
        assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0
        assert (gradient.transpose(1, 2)[~valid] == 0).all()
        assert not getattr(step.teacher, name)[6].requires_grad
    ours = {name: {6: getattr(step.student, name)[3].detach()} for name in NAMES}
    theirs = {name: {3: getattr(step.teacher, name)[6]} for name in NAMES}
    mask = step.student.mask
    swapped = replaced(step, students={"student": Outputs(theirs, mask)}, teachers={"big": Outputs(ours, mask)})
    for name, term in relations(made, swapped).items():
        assert term.value.item() != pytest.approx(terms[name].value.item(), rel=1e-3)


def test_relations_leave_the_end_of_the_student_untrained():
    """It gets no gradient, so AdamW passes over it, weight decay included; the prediction then trains everything."""
    bench = Bench(("minilm-v2", {"relation_heads": 4}, "classification", 1))
    student = bench.students["student"]
    before = {name: p.clone() for name, p in student.named_parameters()}
    first, second = bench.ready()
    losses = bench.train(first, 3, bench.batch())
    assert losses[-1] < losses[0]
    for name, p in student.named_parameters():
        assert (p.grad is None) == name.startswith(UNTRAINED), name
        assert torch.equal(p, before[name]) == name.startswith(UNTRAINED), name
    bench.train(second, 1, bench.batch())
    assert all(p.grad is not None for p in student.parameters())
