"""MLKD-BERT: the card's invariants. 6 and 7 are shown on the loss itself too, in tests/losses/test_contrast.py."""

import math
from dataclasses import replace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.layer_map import single
from kdcore.methods import METHODS, resolve
from kdcore.models.count import parameters
from kdcore.models.sizes import PRESETS
from kdcore.records import ModelSize, Outputs, Step
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(
    variants=(
        {"hidden_weight": 0.0, "embedding_weight": 0.0, "sample_weight": 0.0},
        {"attention_weight": 0.0, "contrast_weight": 0.0},
        {"representation_share": 0.0},
        {"sample_weight": 0.0, "contrast_weight": 0.0},
    ),
    trained=(
        {"projection": "shared", "embedding_norm": False, "contrast_scaled": False, "splits": 4, "layers": "last"},
    ),
    not_zero=frozenset({"contrast"}),  # equal vectors have the others of the batch to be told from
)

FIRST = ("embedding", "attention", "hidden")
SECOND = ("sample", "contrast", "soft")


def values(world, step) -> dict[str, float]:
    return {name: term.value.item() for name, term in world.stage(step.stage).terms(step).items()}


def changed(outputs: Outputs, **tensors: object) -> Outputs:
    """The same outputs with some tensors in place of their own."""
    return Outputs({name: tensors.get(name, getattr(outputs, name)) for name in outputs.names()}, outputs.mask)


def bench(options: dict[str, object] | None = None, kind: str = "classification", equal: bool = False) -> Bench:
    return Bench(("mlkd", options or {}, kind, 1), equal=equal)


def bench_step(made: Bench, stage: str, rows: int = 6) -> tuple[Step, dict]:
    chosen = {known.name: known for known in made.method.stages()}[stage]
    step = made.step(chosen, made.batch(rows))
    return step, chosen.terms(step)


# --- the total loss, written from the equations ---------------------------------------------------------------------


def relation(rows: torch.Tensor) -> torch.Tensor:
    matrix = torch.exp(rows @ rows.T / math.sqrt(rows.shape[-1]))
    matrix = matrix / matrix.sum(-1, keepdim=True)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(len(rows), dtype=torch.float64))  # invariant 2
    assert matrix.shape == (len(rows), len(rows))
    return matrix


def divergence(student: torch.Tensor, teacher: torch.Tensor) -> float:
    """KL of the relations of these vectors, mean over them."""
    p, q = relation(teacher), relation(student)
    return float((p * (p.log() - q.log())).sum() / len(p))


def normalised(states: torch.Tensor) -> torch.Tensor:
    centred = states - states.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def expected_representation(step: Step, layers: dict[int, int], splits: int, project) -> dict[str, float]:
    lengths = step.student.mask.sum(-1).tolist()
    found = dict.fromkeys(FIRST, 0.0)
    for row, length in enumerate(lengths):

        def valid(outputs: Outputs, name: str, layer: int | None = None, row=row, length=length) -> torch.Tensor:
            tensor = getattr(outputs, name) if layer is None else getattr(outputs, name)[layer]
            return tensor.detach()[row, :length]

        ours, theirs = normalised(valid(step.student, "embeddings")), normalised(valid(step.teacher, "embeddings"))
        found["embedding"] += divergence(ours, theirs) / len(lengths)
        for m, n in layers.items():
            if m:
                ours, theirs = valid(step.student, "head_outputs", m), valid(step.teacher, "head_outputs", n)
                pairs = zip(ours.chunk(splits, -1), theirs.chunk(splits, -1), strict=True)
                found["attention"] += sum(divergence(s, t) for s, t in pairs) / splits / len(lengths)
            apart = project(m, valid(step.student, "hidden", m)) - valid(step.teacher, "hidden", n)
            found["hidden"] += float(apart.square().mean()) / len(lengths)
    return found


@pytest.mark.parametrize("projection", ["per-layer", "shared"])
def test_the_representation_stage_equals_the_equations(world, shape, projection):
    made = world("mlkd", {"projection": projection, "splits": 4}, teachers={"big": shape(6, width=12)})
    method = made.method.double()
    step = made.step("representation")
    layers = {1: 2, 2: 4, 3: 6} if projection == "shared" else {0: 0, 1: 2, 2: 4, 3: 6}
    linears = dict(method.projections.items())
    assert set(linears) == ({"shared"} if projection == "shared" else {"0", "1", "2", "3"})

    def project(m: int, states: torch.Tensor) -> torch.Tensor:
        linear = linears["shared" if projection == "shared" else str(m)]
        return states @ linear.weight.detach().T + linear.bias.detach()

    with torch.no_grad():
        for linear in linears.values():
            linear.bias.copy_(torch.arange(12) / 7)
    expected = expected_representation(step, layers, 4, project)
    assert values(made, step) == pytest.approx(expected, rel=1e-10)
    assert single(made.method.layer_map(made.method.config, shape(3), shape(6))) == layers
    total = sum(term.value * term.weight for term in made.stage("representation").terms(step).values())
    assert total.item() == pytest.approx(sum(expected.values()), rel=1e-10)


@pytest.mark.parametrize("regression", [False, True])
def test_the_prediction_stage_equals_the_equations(world, shape, regression):
    options = {"sample_weight": 2.0, "contrast_weight": 3.0, "soft_weight": 5.0, "contrast_temperature": 0.3}
    made = world("mlkd", options, teachers={"big": shape(6, width=12)}, regression=regression)
    made.method.double()
    step = made.step()
    ours, theirs = step.student.cls[3].detach(), step.teacher.cls[6]
    linear = made.method.projections["3"]
    vectors = torch.cat([ours @ linear.weight.detach().T, theirs])
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    scores, labels = torch.exp(vectors @ vectors.T / 0.3), step.batch.labels.tolist() * 2
    contrast = 0.0
    for i in range(12):
        others = [a for a in range(12) if a != i]
        below = sum(float(scores[i, a]) for a in others)
        positive = [a for a in others if labels[a] == labels[i]]
        contrast -= sum(math.log(float(scores[i, a]) / below) for a in positive) / len(positive) / 12
    s, t = step.student.logits.detach(), step.teacher.logits
    p, q = t.softmax(-1), s.softmax(-1)
    soft = float((s - t).square().mean() if regression else (p * (p / q).log()).sum() / 6)
    expected = {"sample": divergence(ours, theirs), "contrast": contrast, "soft": soft}
    assert values(made, step) == pytest.approx(expected, rel=1e-10)
    total = 2 * expected["sample"] + 3 * 0.3 * contrast + 5 * soft
    assert made.loss(step).item() == pytest.approx(total, rel=1e-10)


def test_word_embeddings_as_they_are(world):
    made = world("mlkd", {"embedding_norm": False})
    made.method.double()
    step = made.step("representation")
    rows = zip(step.student.embeddings.detach(), step.teacher.embeddings, step.student.mask.sum(-1), strict=True)
    expected = sum(divergence(s[:n], t[:n]) for s, t, n in rows) / 6
    assert values(made, step)["embedding"] == pytest.approx(expected, rel=1e-10)


# --- the card's invariants --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [1, 2, 4, 8])
def test_1_a_student_equal_to_its_teacher_has_no_loss(world, shape, replaced, splits):
    made = world("mlkd", {"splits": splits}, teachers={"big": shape(3)})
    made.method.double()
    for stage in made.method.stages():
        step = made.step(stage.name)
        found = values(made, replaced(step, teachers={"big": step.student}))
        assert all(found[name] == pytest.approx(0.0, abs=1e-12) for name in found if name != "contrast")
        assert all(value > 1e-3 for value in values(made, step).values())


@pytest.mark.parametrize("width", [4, 8, 24])
def test_2_any_widths_go_together(world, shape, width):
    """Relation matrices have the size of the row or the batch; their rows' sums are checked in `relation` above."""
    made = world("mlkd", student=shape(2, width=width), teachers={"big": shape(5, width=12)})
    made.method.double()
    for stage in made.method.stages():
        assert all(math.isfinite(value) for value in values(made, made.step(stage.name)).values())


def test_3_rotating_each_split_changes_nothing(world, replaced):
    made = world("mlkd", {"splits": 2})
    made.method.double()
    step = made.step("representation")
    generator = torch.Generator().manual_seed(4)
    turns = [torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0] for _ in range(2)]
    turned = {
        layer: torch.cat([part @ turn for part, turn in zip(state.chunk(2, -1), turns, strict=True)], -1)
        for layer, state in step.student.head_outputs.items()
    }
    student = changed(step.student, head_outputs=turned)
    expected = values(made, step)["attention"]
    assert values(made, replaced(step, students={"student": student}))["attention"] == pytest.approx(expected, rel=1e-9)
    other = world("mlkd", {"splits": 4})  # rotations across splits are seen
    other.method.double()
    seen = values(other, replaced(step, students={"student": student}))["attention"]
    assert seen != pytest.approx(values(other, step)["attention"], rel=1e-3)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_4_one_row_has_no_others_to_relate_to(kind):
    made = bench(kind=kind)
    _, first = bench_step(made, "representation", rows=1)
    step, second = bench_step(made, "prediction", rows=1)
    assert second["sample"].value.item() == 0.0 and second["contrast"].value.item() == 0.0
    assert second["soft"].value.item() > 0 and all(term.value.item() > 0 for term in first.values())
    sum(term.value * term.weight for term in second.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in made.students["student"].parameters() if p.grad is not None)
    assert len(step.batch) == 1


@pytest.mark.parametrize("name", [*FIRST, *SECOND])
def test_5_pooler_and_classifier_learn_from_the_soft_labels_alone(name):
    made = bench()
    _, terms = bench_step(made, "representation" if name in FIRST else "prediction")
    student = made.students["student"]
    student.zero_grad()
    terms[name].value.backward()
    head = [*student.bert.pooler.parameters(), *student.classifier.parameters()]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.bert.embeddings.parameters())
    assert all((p.grad is not None) == (name == "soft") for p in head)


def test_6_with_distinct_labels_a_row_is_drawn_to_its_own_copy(world, replaced):
    made = world("mlkd", {"contrast_temperature": 0.3})
    made.method.double()
    step = made.step()
    step = replaced(step, batch=replace(step.batch, labels=torch.arange(6)))
    ours, theirs = step.student.cls[3].detach(), step.teacher.cls[6]
    vectors = torch.nn.functional.normalize(torch.cat([ours, theirs]), dim=-1)  # equal widths: W is the identity
    scores = (vectors @ vectors.T / 0.3).fill_diagonal_(-math.inf)
    expected = torch.nn.functional.cross_entropy(scores, (torch.arange(12) + 6) % 12)
    assert values(made, step)["contrast"] == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize(("scaled", "factor"), [(True, 0.07), (False, 1.0)])
def test_7_the_contrast_of_vectors_that_coincide(world, replaced, scaled, factor):
    made = world("mlkd", {"contrast_scaled": scaled})
    made.method.double()
    step, same = made.step(), torch.ones(6, 8, dtype=torch.float64)
    student, teacher = changed(step.student, cls={3: same}), changed(step.teacher, cls={6: 2 * same})
    term = made.method.terms(replaced(step, students={"student": student}, teachers={"big": teacher}))["contrast"]
    assert term.value.item() == pytest.approx(math.log(11), rel=1e-10)
    assert term.weight == pytest.approx(factor)


@pytest.mark.parametrize("heads", [12, 6, 3, 1])
def test_8_the_number_of_heads_is_free(world, shape, heads):
    """Splits as many as the student has heads: a teacher of 12 gives 12 / heads of its own to each."""
    teacher = replace(shape(4, width=24), heads=12)
    student = replace(shape(2, width=12), heads=heads)
    for splits in (0, 4):
        made = world("mlkd", {"splits": splits}, student=student, teachers={"big": teacher})
        assert made.method.splits == (splits or heads)
        made.method.double()
        assert values(made, made.step("representation"))["attention"] > 0


def test_8_splits_that_do_not_divide_are_refused(world, shape):
    with pytest.raises(UserError, match=r"options\.splits.*5 splits.*8 of the student and 12 of the teacher.*1, 2, 4"):
        world("mlkd", {"splits": 5}, teachers={"big": shape(6, width=12)})
    with pytest.raises(UserError, match=r"options\.splits.*8 splits"):  # its own heads: 8 divides 8, and not 12
        world("mlkd", student=replace(shape(3), heads=8), teachers={"big": shape(6, width=12)})
    world("mlkd", {"splits": 5, "attention_weight": 0.0}, teachers={"big": shape(6, width=12)})
    world("mlkd", {"splits": 5, "representation_share": 0.0}, teachers={"big": shape(6, width=12)})


def test_9_fewer_heads_are_as_many_parameters():
    """The card's students, with 12 heads and with 3; the presets are these sizes."""
    small, half = PRESETS["narrow-312"], PRESETS["six-layers"]
    assert (small.layers, small.width, small.heads, small.intermediate) == (4, 312, 12, 1200)
    assert (half.layers, half.width, half.heads, half.intermediate) == (6, None, None, None)
    for size, millions in ((ModelSize(4, 312, 12, 1200), 14.35), (ModelSize(6, 768, 12, 3072), 66.96)):
        counted = {parameters(replace(size, heads=heads)).total for heads in (12, 6, 3)}
        assert len(counted) == 1 and counted.pop() / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("name", SECOND)
def test_10_the_teacher_receives_no_gradient(name):
    made = bench()
    step, terms = bench_step(made, "prediction")
    terms[name].value.backward()
    assert not step.teacher.cls[4].requires_grad and not step.teacher.logits.requires_grad
    assert all(p.grad is None for model in made.teachers.values() for p in model.parameters())


# --- layers, stages, projections --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "teacher", "layers", "expected"),
    [
        (4, 12, "spread", {0: 0, 1: 3, 2: 6, 3: 9, 4: 12}),
        (4, 12, "uniform", {0: 0, 1: 3, 2: 6, 3: 9, 4: 12}),
        (6, 12, "spread", {0: 0, 1: 2, 2: 4, 3: 6, 4: 8, 5: 10, 6: 12}),
        (4, 6, "spread", {0: 0, 1: 2, 2: 3, 3: 5, 4: 6}),
        (4, 3, "spread", {0: 0, 1: 1, 2: 2, 3: 2, 4: 3}),
        (1, 1, "uniform", {0: 0, 1: 1}),
        (2, 6, "last", {0: 0, 1: 5, 2: 6}),
        (2, 6, "first", {0: 0, 1: 1, 2: 2}),
    ],
)
def test_layer_map(world, shape, student, teacher, layers, expected):
    made = world("mlkd", {"layers": layers}, student=shape(student), teachers={"big": shape(teacher)})
    assert made.method.map == expected
    made.method.double()
    assert all(value > 0 for value in values(made, made.step("representation")).values())


def test_maps_that_do_not_fit_are_refused_with_a_remedy(world, shape):
    with pytest.raises(UserError, match=r"options\.layers.*6 / 4 is not whole.*choose spread"):
        world("mlkd", {"layers": "uniform"}, student=shape(4), teachers={"big": shape(6)})
    with pytest.raises(UserError, match=r"options\.layers.*no deeper.*choose spread"):
        world("mlkd", {"layers": "last"}, student=shape(8), teachers={"big": shape(6)})
    with pytest.raises(UserError, match=r"options\.layers"):
        resolve("mlkd", {"layers": "skip"})


def test_two_stages(world):
    first, second = world("mlkd").method.stages()
    assert (first.name, first.schedule, first.judge, first.share) == ("representation", "constant", "loss", 0.55)
    assert (second.name, second.schedule, second.judge, second.start) == ("prediction", "linear", "score", "last")
    assert second.share == pytest.approx(0.45)
    assert first.needs.student == {"embeddings": (), "head_outputs": (1, 2, 3), "hidden": (0, 1, 2, 3)}
    assert first.needs.teacher == {"embeddings": (), "head_outputs": (2, 4, 6), "hidden": (0, 2, 4, 6)}
    assert second.needs.student == {"logits": (), "cls": (3,)}
    assert second.needs.teacher == {"logits": (), "cls": (6,)}
    assert METHODS["mlkd"].batch_relational and METHODS["mlkd"].teachers == (1, 1)


@pytest.mark.parametrize("name", [*FIRST, "sample", "contrast"])
def test_a_weight_of_zero_leaves_its_term_out(world, name):
    made, whole = world("mlkd", {f"{name}_weight": 0.0}), world("mlkd")
    made.method.double(), whole.method.double()
    expected = [name for stage in whole.method.stages() for name in values(whole, whole.step(stage.name))]
    found = [name for stage in made.method.stages() for name in values(made, made.step(stage.name))]
    assert found == [known for known in expected if known != name]
    assert set(expected) == {*FIRST, *SECOND}


def test_the_prediction_stage_may_stand_alone(world, shape):
    for options in (dict.fromkeys([f"{name}_weight" for name in FIRST], 0.0), {"representation_share": 0.0}):
        made = world("mlkd", options, teachers={"big": shape(6, width=12)})
        (stage,) = made.method.stages()
        assert (stage.name, stage.share) == ("prediction", 1.0)
        assert made.method.layer_map(made.method.config, shape(3), shape(6)) == {}
    made = world("mlkd", {"representation_share": 0.0, "sample_weight": 0.0, "contrast_weight": 0.0})
    step = made.step()
    assert torch.equal(made.loss(step), world("kd", {"alpha": 1.0, "temperature": 1.0}).loss(step))
    assert not list(made.method.parameters()) and made.stage().needs.student == {"logits": ()}


def test_soft_labels_cannot_be_left_out():
    """In the authors' logs a student without them answers at random: nothing else trains its classifier."""
    with pytest.raises(UserError, match=r"options\.soft_weight"):
        resolve("mlkd", {"soft_weight": 0.0})


def test_projections_are_the_identity_between_equal_widths_and_drawn_from_the_seed_between_others(world, shape):
    equal, other = world("mlkd").method, world("mlkd", teachers={"big": shape(6, width=12)}).method
    assert all(torch.equal(linear.weight, torch.eye(8)) for linear in equal.projections.values())
    before = torch.get_rng_state()
    again = world("mlkd", teachers={"big": shape(6, width=12)}).method
    assert torch.equal(torch.get_rng_state(), before)
    drawn = [linear.weight.detach() for linear in other.projections.values()]
    assert all(torch.equal(a, b.weight) for a, b in zip(drawn, again.projections.values(), strict=True))
    assert not torch.equal(drawn[0], drawn[1]) and drawn[0].shape == (12, 8)
    assert all(float(weight.std()) == pytest.approx(8**-0.5, rel=0.3) for weight in drawn)
    assert not any(linear.bias.any() for linear in [*equal.projections.values(), *other.projections.values()])


def test_only_projections_that_are_read_are_made_and_trained(world):
    contrast = world("mlkd", {"hidden_weight": 0.0})
    assert set(contrast.method.projections) == {"3"}
    assert [stage.trains("method") for stage in contrast.method.stages()] == [False, True]
    hidden = world("mlkd", {"contrast_weight": 0.0})
    assert set(hidden.method.projections) == {"0", "1", "2", "3"}
    assert [stage.trains("method") for stage in hidden.method.stages()] == [True, False]


def test_only_exactly_equal_scores_are_a_class(world, replaced):
    made = world("mlkd", regression=True)
    made.method.double()
    step = made.step()
    labels = step.batch.labels.clone()
    apart = values(made, step)["contrast"]
    near, equal = labels.clone(), labels.clone()
    near[1], equal[1] = labels[0] + 1e-9, labels[0]
    assert values(made, replaced(step, batch=replace(step.batch, labels=near)))["contrast"] == pytest.approx(apart)
    together = values(made, replaced(step, batch=replace(step.batch, labels=equal)))["contrast"]
    assert together != pytest.approx(apart, rel=1e-3)


def test_the_code_divides_its_soft_labels_by_the_classes(world):
    """soft_weight 1 / C is the code's mean over rows and classes, up to the teacher's entropy, a constant."""
    made = world("mlkd", {"representation_share": 0.0, "sample_weight": 0.0, "contrast_weight": 0.0,
                          "soft_weight": 1 / 3})  # fmt: skip
    step = made.step()
    (ours,) = torch.autograd.grad(made.loss(step), step.student.logits)
    code = -(step.teacher.logits.softmax(-1) * step.student.logits.log_softmax(-1)).mean()
    (theirs,) = torch.autograd.grad(code, step.student.logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "relates"),
    [
        ({}, True),
        ({"sample_weight": 0.0}, True),
        ({"contrast_weight": 0.0}, True),
        ({"sample_weight": 0.0, "contrast_weight": 0.0}, False),
    ],
)
def test_rows_are_related_by_the_terms_that_say_so_alone(options, relates):
    method, config = resolve("mlkd", options)
    assert method.relates_rows(config) is relates
