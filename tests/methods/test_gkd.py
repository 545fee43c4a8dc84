"""GKD: directions of gradients, by its card.

Its points 1 and 2 are in tests/losses/test_gradient.py, 6 (frozen embeddings) and 8 (no dropout) in
tests/engine/test_gradient_methods.py.
"""

import math

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import METHODS
from kdcore.models.observe import rerun_of
from kdcore.records import want
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(
    variants=(
        {"variant": "gkd-cls", "patience_weight": 0.0},
        {"variant": "gkd-cls", "gradient_weight": 0.0, "freeze_embeddings": False},
        {"gradient_weight": 0.0},
    ),
    trained=({"variant": "gkd-cls", "gradient_weight": 3.0},),
)


def slow_gradients(model, batch, row: int, layers, regression: bool) -> list[list[list[float]]]:
    """Of max softmax, as the paper has it, by transformers' own pass over one row without padding."""
    length = int(batch.encoding.attention_mask[row].sum())
    ids = batch.encoding.input_ids[row : row + 1, :length]
    before = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(True)
    out = model(input_ids=ids, output_hidden_states=True)
    signal = out.logits.sum() if regression else out.logits.softmax(-1).max()
    found = torch.autograd.grad(signal, [out.hidden_states[layer] for layer in layers])
    for parameter, trained in zip(model.parameters(), before, strict=True):
        parameter.requires_grad_(trained)
    return [gradient[0].tolist() for gradient in found]


def apart(one: list[float], other: list[float]) -> float:
    """|n(one) - n(other)|^2."""
    a, b = (math.sqrt(sum(x * x for x in vector)) for vector in (one, other))
    return sum((x / a - y / b) ** 2 for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("variant", ["gkd", "gkd-cls"])
def test_equals_the_equations(world, variant, regression):
    options = {"variant": variant, "gradient_weight": 0.7, "patience_weight": 3.0, "alpha": 0.4}
    made = world("gkd", options, regression=regression)
    step, terms = made.step(), made.terms(made.step())
    pairs = {1: 2, 2: 4} if variant == "gkd-cls" else {}
    assert made.method.map == {0: 0, **pairs}
    rows = []
    for row in range(len(step.batch)):
        ours = slow_gradients(made.models["student"], step.batch, row, [0, *pairs], regression)
        theirs = slow_gradients(made.models["big"], step.batch, row, [0, *pairs.values()], regression)
        tokens = [apart(a, b) for a, b in zip(ours[0], theirs[0], strict=True)]
        inner = [apart(a[0], b[0]) for a, b in zip(ours[1:], theirs[1:], strict=True)]
        rows.append(sum(tokens) / len(tokens) + sum(inner))
    assert terms["direction"] == pytest.approx(sum(rows) / len(rows), rel=1e-10)
    expected = world("kd", {"alpha": 0.4, "temperature": 5.0}, regression=regression).loss(step).item()
    expected += 0.7 * terms["direction"]
    if pairs:
        said = step.student.cls, step.teacher.cls
        each = [
            apart(said[0][j][row].tolist(), said[1][n][row].tolist()) / 8 for j, n in pairs.items() for row in range(6)
        ]
        assert terms["patience"] == pytest.approx(sum(each) / len(each), rel=1e-10)
        expected += 3.0 * terms["patience"]
    assert made.loss(step).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("variant", ["gkd", "gkd-cls"])
def test_the_second_derivative_is_that_of_finite_differences(world, variant, regression):
    made = world("gkd", {"variant": variant}, regression=regression)
    step = made.step()
    for name in ("bert.encoder.layer.0.attention.self.query.weight", "bert.encoder.layer.1.output.dense.weight"):
        weight = made.models["student"].get_parameter(name)
        along = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

        def term() -> torch.Tensor:
            return made.method.terms(step)["direction"].value

        (gradient,) = torch.autograd.grad(term(), weight)
        moved = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * 1e-7 * along
            moved.append(float(term().detach()))
            with torch.no_grad():
                weight -= sign * 1e-7 * along
        slope = (moved[0] - moved[1]) / 2e-7
        assert abs(slope) > 1e-3
        assert float((gradient * along).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-7), name


def test_padded_tokens_have_no_gradient(world):
    made = world("gkd")
    step = made.step()
    for outputs in (step.student, step.teacher):
        (found,) = made.method._gradients(outputs, [0], False, graph=False)
        padding = step.student.mask == 0
        assert not found[padding].any() and found[~padding].any(-1).all()


def test_the_last_state_moves_the_answer_at_cls_alone(world):
    made = world("gkd")
    last = made.setup.student.layers
    student = made.step().student
    whole = student.with_rerun(rerun_of(made.models["student"], made.batch().encoding, want(hidden=(last,))))
    (found,) = made.method._gradients(whole, [last], False, graph=False)
    assert found[:, 0].any() and not found[:, 1:].any()
    assert last not in made.method.map and last not in world("gkd", {"variant": "gkd-cls"}).method.map


def test_two_classes_give_the_direction_of_the_difference_of_logits():
    bench = Bench(("gkd", {}, "classification", 1))
    bench.teachers["t0"].classifier = torch.nn.Linear(16, 2).requires_grad_(False)
    (stage,) = bench.ready()
    outputs = bench.teacher_outputs(stage, "t0", bench.batch().encoding)
    (ours,) = bench.method._gradients(outputs, [0], False, graph=False)
    again = outputs.rerun()
    (plain,) = torch.autograd.grad((again.logits[:, 0] - again.logits[:, 1]).sum(), again.hidden[0])
    sign = torch.where(again.logits[:, 0] > again.logits[:, 1], 1.0, -1.0)[:, None, None]
    torch.testing.assert_close(ours, sign * plain)


@pytest.mark.parametrize("variant", ["gkd", "gkd-cls"])
def test_without_weights_it_is_kd_bit_for_bit(world, shape, variant):
    options = {"variant": variant, "gradient_weight": 0.0, "patience_weight": 0.0, "alpha": 0.4}
    made = world("gkd", options, teachers={"big": shape(6, width=16)})
    (stage,) = made.method.stages()
    assert stage.needs.student == {"logits": ()} == stage.needs.teacher and not stage.needs.rerun
    assert torch.equal(made.loss(made.step()), world("kd", {"alpha": 0.4, "temperature": 5.0}).loss(made.step()))


def test_a_student_without_inner_layers_has_no_gkd_cls(world, shape):
    with pytest.raises(UserError, match="inner layers"):
        world("gkd", {"variant": "gkd-cls"}, student=shape(1))
    world("gkd", student=shape(1))


def test_states_of_cls_need_no_label():
    method = METHODS["gkd"]
    options = {"alpha": 0.0, "gradient_weight": 0.0}
    assert method.uses_unlabelled(method.Config(variant="gkd-cls", **options))
    assert not method.uses_unlabelled(method.Config(**options)), "gkd has no such term"
    assert not method.uses_unlabelled(method.Config(variant="gkd-cls", patience_weight=0.0, **options))


def test_reads_states_only_where_patience_counts(world):
    assert world("gkd").stage().needs.teacher == {"logits": ()}
    both = world("gkd", {"variant": "gkd-cls"}).stage().needs
    assert (both.student["cls"], both.teacher["cls"]) == ((1, 2), (2, 4))
    assert world("gkd", {"variant": "gkd-cls", "patience_weight": 0.0}).stage().needs.student == {"logits": ()}
    assert world("gkd", {"variant": "gkd-cls", "gradient_weight": 0.0}).method.map == {1: 2, 2: 4}


def test_other_widths_are_refused(world, shape):
    with pytest.raises(UserError, match=r"student\.width.*gradients and states directly.*width 8 differs from 16"):
        world("gkd", teachers={"big": shape(6, width=16)})


def test_embeddings_are_frozen_unless_they_are_to_be_trained(world):
    assert world("gkd").stage().frozen == ("embeddings",)
    assert world("gkd", {"freeze_embeddings": False}).stage().frozen == ()


def test_what_can_be_left_out():
    method = METHODS["gkd"]
    parts = {variant: set(method.ablations(method.Config(variant=variant), "classification")) for variant in
             ("gkd", "gkd-cls")}  # fmt: skip
    assert parts == {"gkd": {"hard", "soft", "direction"}, "gkd-cls": {"hard", "soft", "direction", "patience"}}


def test_the_published_weights_convert(world):
    """The authors' (1 - a) CE + a T^2 KL / C + b delta is ours up to one factor, as `departs` says."""
    a, b, classes = 0.5, 1.0, 3
    alpha = a / (a + classes * (1 - a))
    weight = b * (1 - alpha) / (1 - a)
    made = world("gkd", {"alpha": alpha, "gradient_weight": weight})
    terms = made.terms(made.step())
    published = (1 - a) * terms["hard"] + a * terms["soft"] / classes + b * terms["direction"]
    assert made.loss(made.step()).item() == pytest.approx(published * (1 - alpha) / (1 - a), rel=1e-10)


def test_the_conversion_of_the_defaults_in_the_docstring():
    alpha = 0.5 / (0.5 + 2 * 0.5)
    assert (round(alpha, 2), round((1 - alpha) / 0.5, 2)) == (0.33, 1.33)
