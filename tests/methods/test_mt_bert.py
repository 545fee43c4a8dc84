"""MT-BERT: the head that teachers share, the weights of their rows, and the student's loss by its equations."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from kdcore.errors import UserError
from kdcore.methods import METHODS, resolve
from kdcore.methods.contract_bench import Bench
from kdcore.methods.introspect import stages_of
from kdcore.models.anatomy import anatomy
from kdcore.records import Outputs
from tests.methods.contract import Contract

CONTRACT = Contract(variants=({"together": 0.0, "projection": "per-layer", "by_error": False},))

A, B = "teacher-a", "teacher-b"


def taught(world, shape, regression=False, **options):
    """With maps of states that are not the identity, from teachers of 6 and 3 layers."""
    made = world("mt-bert", options, teachers={"a": shape(6), "b": shape(3)}, regression=regression)
    made.method.double()
    with torch.no_grad():
        for parameter in made.method.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=made.rng, dtype=torch.float64))
    return made


def changed(outputs, **tensors):
    return Outputs({name: getattr(outputs, name) for name in outputs.names()} | tensors, outputs.mask)


def softmax(row, t=1.0):
    total = sum(math.exp(z / t) for z in row)
    return [math.exp(z / t) / total for z in row]


def wrong(said, labels, regression):
    """c of each row."""
    if regression:
        return [(row[0] - label) ** 2 for row, label in zip(said.tolist(), labels.tolist(), strict=True)]
    return [-math.log(softmax(row)[label]) for row, label in zip(said.tolist(), labels.tolist(), strict=True)]


def apart(said, row, t, regression):
    if regression:
        return (said[0] - row[0]) ** 2
    return t * t * sum(p * math.log(p / q) for p, q in zip(softmax(said, t), softmax(row, t), strict=True))


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("projection", ["shared", "per-layer"])
def test_the_students_terms_equal_the_equations(world, shape, regression, projection):
    made = taught(world, shape, regression, temperature=2.0, projection=projection)
    step, labels = made.step(), made.batch().labels
    soft = hidden = 0.0
    for guide, name in ((A, "a"), (B, "b")):
        said = step.teachers[guide]
        rows = zip(
            wrong(said.logits, labels, regression), said.logits.tolist(), step.student.logits.tolist(), strict=True
        )
        soft += sum(apart(theirs, ours, 2.0, regression) / (1 + c) for c, theirs, ours in rows) / 6
        for j, n in {1: 2, 2: 4, 3: 6}.items() if name == "a" else {1: 1, 2: 2, 3: 3}.items():
            linear = made.method.projections["ab".index(name)]["all" if projection == "shared" else str(j)]
            mapped = said.hidden[n] @ linear.weight.T + linear.bias
            for row, length in enumerate(step.student.mask.sum(-1).tolist()):
                gap = (step.student.hidden[j] - mapped)[row, :length].square().mean(-1)
                hidden += gap.sum().item() / length / 6
    found = made.terms(step)
    hard = sum(wrong(step.student.logits, labels, regression)) / 6
    assert found == pytest.approx({"hard": hard, "soft": soft, "hidden": hidden}, rel=1e-10)
    weighed = taught(world, shape, regression, temperature=2.0, projection=projection,
                     hard_weight=0.5, soft_weight=2.0, hidden_weight=3.0)  # fmt: skip
    weighed.method.load_state_dict(made.method.state_dict())
    assert weighed.loss(step).item() == pytest.approx(0.5 * hard + 2 * soft + 3 * hidden, rel=1e-10)


def weights(made, step, logits):
    """w of each row where teacher a says this."""
    said = replace(step, teachers={**step.teachers, A: changed(step.teachers[A], logits=logits)})
    return made.method._weight(said, A)


def test_a_row_weighs_one_where_the_teacher_is_right_and_less_where_it_is_wrong(world, shape):
    made = taught(world, shape)
    step = made.step()
    gold = torch.nn.functional.one_hot(step.batch.labels, 3).double()
    torch.testing.assert_close(weights(made, step, 1e3 * gold), torch.ones(6, dtype=torch.float64))
    uniform = weights(made, step, torch.zeros(6, 3, dtype=torch.float64))
    assert uniform.tolist() == pytest.approx([1 / (1 + math.log(3))] * 6)
    assert uniform[0] == pytest.approx(0.477, abs=5e-4)
    surer = [weights(made, step, scale * gold) for scale in (-5.0, -1.0, 0.0, 1.0, 5.0)]
    assert all((less < more).all() and (less > 0).all() for less, more in pairwise(surer))


def test_the_other_classes_do_not_count_in_a_weight(world, shape):
    made = taught(world, shape)
    step = made.step()
    swapped = step.teachers[A].logits.clone()
    for row, label in enumerate(step.batch.labels.tolist()):
        one, two = (other for other in range(3) if other != label)
        swapped[row, [one, two]] = swapped[row, [two, one]]
    torch.testing.assert_close(weights(made, step, swapped), weights(made, step, step.teachers[A].logits))


def test_the_order_of_teachers_does_not_count(world, shape):
    made = taught(world, shape)
    turned = world("mt-bert", {}, teachers={"b": shape(3), "a": shape(6)})
    turned.method.double()
    for one, two in zip(turned.method.projections, reversed(made.method.projections), strict=True):
        one.load_state_dict(two.state_dict())
    step = made.step()
    leaves = [step.student.logits, *step.student.hidden.values()]
    (one, ours), (two, theirs) = (
        (loss := each.loss(step), torch.autograd.grad(loss, leaves)) for each in (made, turned)
    )
    torch.testing.assert_close(one, two, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_the_same_teacher_twice_doubles_all_but_the_gold_labels(world, shape):
    made = world("mt-bert", {}, teachers={"a": shape(6), "b": shape(6)})
    made.method.double()
    step = made.step()
    said = step.teachers[A]
    twice = made.terms(replace(step, teachers={A: said, B: said}))
    made.method.guides, made.method.maps = {A: "a"}, {A: made.method.maps[A]}
    made.method.projections = made.method.projections[:1]
    once = made.terms(step)
    assert twice == pytest.approx({"hard": once["hard"], "soft": 2 * once["soft"], "hidden": 2 * once["hidden"]})


def test_with_weights_of_one_and_no_states_it_is_kd_of_each(world, shape):
    made = taught(world, shape, by_error=False, hidden_weight=0.0, temperature=3.0)
    assert not list(made.method.parameters())
    step, kd = made.step(), world("kd", {"temperature": 3.0})
    each = [
        kd.terms(replace(step, teachers={guide: said}, rows={guide: None})) for guide, said in step.teachers.items()
    ]
    assert made.terms(step) == pytest.approx({"hard": each[0]["hard"], "soft": sum(one["soft"] for one in each)})


def test_layers_of_the_teacher_are_a_loss_of_none(world, shape):
    made = world("mt-bert", {}, teachers={"a": shape(6), "b": shape(6)})
    made.method.double()
    step = made.step()
    ours = {j: step.teachers[A].hidden[2 * j] for j in (1, 2, 3)}
    same = replace(
        step, students={"student": changed(step.student, hidden=ours)}, teachers=dict.fromkeys((A, B), step.teachers[A])
    )
    assert made.terms(step)["hidden"] > 1e-3 and made.terms(same)["hidden"] == pytest.approx(0.0, abs=1e-12)


# --- the head that teachers share -------------------------------------------------------------------------------------


@pytest.fixture
def bench() -> Bench:
    return Bench(("mt-bert", {}, "classification", 2))


def shared(bench) -> list[nn.Parameter]:
    parts = anatomy(bench.students["teacher-t0"])
    return [*parts.pooler.parameters(), *parts.classifier.parameters()]


def test_teachers_have_one_head_and_bodies_of_their_own(bench):
    one, two = (anatomy(bench.students[role]) for role in ("teacher-t0", "teacher-t1"))
    for part in ("pooler", "classifier"):
        pairs = list(zip(getattr(one, part).parameters(), getattr(two, part).parameters(), strict=True))
        assert len(pairs) == 2 and all(a is b for a, b in pairs), part
    bodies = [set(bench.students[role].parameters()) - set(shared(bench)) for role in ("teacher-t0", "teacher-t1")]
    assert bodies[0] and not bodies[0] & bodies[1]
    source = dict(bench.teachers["t0"].named_parameters())
    assert all(torch.equal(source[name], p) for name, p in bench.students["teacher-t0"].named_parameters())
    assert not set(bench.students["student"].parameters()) & set(shared(bench))


def test_the_heads_gradient_is_the_sum_of_the_teachers(bench):
    """And a body has the gradient of its own teacher's loss alone."""
    stage, heads = bench.method.stages()[0], shared(bench)
    step = bench.step(stage, bench.batch())
    whole = torch.autograd.grad(stage.terms(step)["hard"].value, heads, retain_graph=True)
    alone = []
    for role in ("teacher-t0", "teacher-t1"):
        loss = stage.terms(replace(step, students={role: step.students[role]}))["hard"].value
        alone.append(torch.autograd.grad(loss, heads, retain_graph=True))
        other = "teacher-t1" if role == "teacher-t0" else "teacher-t0"
        body = [p for p in bench.students[other].parameters() if all(p is not head for head in heads)]
        found = torch.autograd.grad(loss, body, allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in found)
    for together, *each in zip(whole, *alone, strict=True):
        torch.testing.assert_close(together, each[0] + each[1])


def test_its_stages(world, shape):
    made = taught(world, shape, together=0.5)
    first, last = made.method.stages()
    assert (first.name, first.pilot, first.share, first.adopt) == ("together", True, 0.5, (A, B))
    assert (first.judge, first.ends) == ("loss", "best") and not first.asks(made.setup.teachers)
    assert [first.trains(role) for role in ("student", "method", A, B)] == [False, False, True, True]
    assert last.asks(made.setup.teachers) == (A, B) and last.students == ("student",)
    assert METHODS["mt-bert"].pilots(made.method.config, 2) == 0.5
    (alone,) = taught(world, shape, together=0.0).method.stages()
    assert alone.asks(made.setup.teachers) == ("a", "b") and not alone.pilot


def test_the_picture_has_both_stages(world, shape):
    made = taught(world, shape)
    first, last = stages_of(METHODS["mt-bert"], made.method.config, made.setup)
    assert (first.learner, first.depth, first.teacher) == (A, 6, "")
    assert (last.learner, last.teacher, last.teacher_depth) == ("student", A, 6)


def test_teachers_that_cannot_share_a_head_are_refused(world, shape):
    wide = {"a": shape(6), "b": shape(3, width=16)}
    with pytest.raises(UserError, match=r"teachers.*differ in width: a 8, b 16.*set together to 0"):
        world("mt-bert", {}, teachers=wide)
    other = {"a": shape(6), "b": replace(shape(3), model_type="roberta")}
    with pytest.raises(UserError, match=r"teachers.*differ in kind: a bert, b roberta"):
        world("mt-bert", {}, teachers=other)
    made = world("mt-bert", {"together": 0.0}, teachers=wide)
    made.method.double()
    assert made.terms(made.step())["hidden"] > 0
    assert METHODS["mt-bert"].teachers == (2, 4) and resolve("mt-bert", {})[0].kinds == {"classification", "regression"}


def test_what_is_told_is_how_much_each_counts(world, shape):
    made = taught(world, shape)
    assert made.method.notes() == {}
    step = made.step()
    made.method.terms(step)
    made.method.after_step(step)
    expected = {}
    for guide, name in ((A, "a"), (B, "b")):
        each = wrong(step.teachers[guide].logits, step.batch.labels, False)
        expected[f"mean weight/{name}"] = sum(1 / (1 + c) for c in each) / 6
    assert made.method.notes() == pytest.approx(expected, rel=1e-10)
