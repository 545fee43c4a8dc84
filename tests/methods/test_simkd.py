"""SimKD: features that fit the teacher's classifier, by its card; in the engine: tests/engine/test_simkd.py."""

from dataclasses import replace

import pytest
import torch

from kdcore.models.anatomy import anatomy
from kdcore.models.count import parameters
from kdcore.models.observe import observe
from kdcore.models.students import projected_student
from kdcore.records import want
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(variants=({"reduction": 4},), not_zero=frozenset({"feature"}))
CASE = ("simkd", {}, "classification", 1)


@pytest.mark.parametrize("regression", [False, True])
def test_equals_the_equation_and_knows_no_labels(world, replaced, regression):
    made = world("simkd", regression=regression)
    step = made.step()
    ours, theirs = step.student.pooled.tolist(), step.teacher.pooled.tolist()
    rows = [sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) / 8 for pair in zip(ours, theirs, strict=True)]
    assert made.terms(step) == {"feature": pytest.approx(sum(rows) / len(rows), rel=1e-10)}
    other = replaced(step, batch=replace(step.batch, labels=step.batch.labels.flip(0)))
    assert torch.equal(made.loss(step), made.loss(other))


def projection_of(bench) -> torch.nn.Module:
    return bench.students["student"].bert.pooler.projection


def test_without_a_projection_the_teachers_features_give_its_answers_exactly():
    bench = Bench(CASE, equal=True)
    bench.students["student"].bert.pooler.projection = torch.nn.Identity()
    rows = bench.batch().encoding
    ours, theirs = (observe(model, rows, want("logits")) for model in (bench.students["student"], bench.teachers["t0"]))
    assert torch.equal(ours.logits, theirs.logits)


def test_answers_are_as_far_apart_as_features_at_most_times_the_classifiers_norm():
    bench = Bench(CASE)
    student, teacher, rows = bench.students["student"], bench.teachers["t0"], bench.batch().encoding
    ours, theirs = (observe(model, rows, want("logits", "pooled"), grad=False) for model in (student, teacher))
    bound = torch.linalg.matrix_norm(teacher.classifier.weight, 2) * (ours.pooled - theirs.pooled).norm(dim=-1)
    apart = (ours.logits - theirs.logits).norm(dim=-1)
    assert (apart > 0).all() and (apart <= bound * (1 + 1e-5)).all()


def test_the_students_own_classifier_counts_for_nothing():
    bench = Bench(CASE)
    model, teacher = bench._build(), bench.teachers["t0"]
    first = projected_student(model, teacher, 8, seed=3)
    with torch.no_grad():
        model.classifier.weight.add_(1)
        model.bert.pooler.dense.bias.add_(1)
    second = projected_student(model, teacher, 8, seed=3)
    other = projected_student(model, teacher, 8, seed=4)
    differing = [n for n, p in first.named_parameters() if not torch.equal(p, second.get_parameter(n))]
    assert differing == ["bert.pooler.dense.bias"]
    assert torch.equal(first.classifier.weight, teacher.classifier.weight)
    differing = [n for n, p in second.named_parameters() if not torch.equal(p, other.get_parameter(n))]
    assert differing == [f"bert.pooler.projection.{name}.weight" for name in ("first", "second", "last")]


def test_its_size_is_that_of_encoder_projection_and_the_teachers_classifier(world, shape):
    made = world("simkd", {"reduction": 3}, teachers={"big": shape(6, width=12)})
    student = made.setup.student
    size = made.method.deployed(made.method.config, student, made.setup.teachers)
    assert (size.pooled_width, size.projection_width) == (12, 4)
    projection = (8 * 4 + 4) + 2 * 4 + (4 * 4 + 4) + 2 * 4 + (4 * 12 + 12)
    more = parameters(size).total - parameters(student).total
    assert more == projection + (12 * 3 + 3) - (8 * 3 + 3)
    assert parameters(size).encoder == parameters(student).encoder
    assert made.method.deployed(made.method.config, student, {}) == student


def test_a_student_that_has_a_projection_teaches_its_output(world, shape):
    """Its width is that of the projection, not of its layers."""
    teacher = replace(shape(6, width=12), pooled_width=20, projection_width=5)
    made = world("simkd", teachers={"big": teacher})
    assert made.method.deployed(made.method.config, made.setup.student, made.setup.teachers).pooled_width == 20


def test_gradients_reach_the_projection_and_the_encoder():
    bench = Bench(CASE)
    (stage,) = bench.ready()
    assert stage.frozen == ("classifier",)
    bench.loss(stage, bench.batch()).backward()
    student = bench.students["student"]
    assert student.classifier.weight.grad is None
    assert all(parameter.grad.any() for parameter in projection_of(bench).parameters())
    assert all(layer.module.output.dense.weight.grad.any() for layer in anatomy(student).layers)
