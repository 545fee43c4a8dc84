"""ALP-KD: every student layer learns from a mixture of the teacher's."""

import math

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import resolve
from kdcore.records import Outputs
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(
    variants=({"view": "buckets", "scale": "sqrt-width"}, {"beta": 0.0}),
    trained=({"view": "overlapping", "tokens": "all", "detach": True},),
    not_zero=frozenset({"mixture"}),  # a mixture of several layers is none of them
)


def layer_map(shape, student: int, teacher: int, view: str) -> dict[int, tuple[int, ...]]:
    method, config = resolve("alp-kd", {"view": view})
    return method.layer_map(config, shape(student), shape(teacher))


def with_states(said: Outputs, states: dict[int, torch.Tensor], name: str = "cls") -> Outputs:
    return Outputs({"logits": said.logits, name: states}, said.mask)


@pytest.mark.parametrize(
    ("student", "teacher", "view", "expected"),
    [
        (2, 4, "all", {1: (1, 2, 3, 4), 2: (1, 2, 3, 4)}),
        (3, 6, "buckets", {1: (1, 2), 2: (3, 4), 3: (5, 6)}),
        (3, 6, "overlapping", {1: (1, 2, 3), 2: (2, 3, 4, 5), 3: (4, 5, 6)}),
        (3, 3, "buckets", {1: (1,), 2: (2,), 3: (3,)}),
    ],
)
def test_which_layers_are_looked_at(shape, student, teacher, view, expected):
    assert layer_map(shape, student, teacher, view) == expected


@pytest.mark.parametrize("view", ["all", "buckets", "overlapping"])
@pytest.mark.parametrize("scale", ["none", "sqrt-width"])
def test_equals_the_equation(world, shape, view, scale):
    made = world("alp-kd", {"view": view, "scale": scale, "beta": 2.0})
    step, looks = made.step(), layer_map(shape, 3, 6, view)
    factor = 8**-0.5 if scale == "sqrt-width" else 1.0
    total = 0.0
    for row in range(6):
        for j, several in looks.items():
            ours = step.student.cls[j][row].tolist()
            theirs = {i: step.teacher.cls[i][row].tolist() for i in several}
            weights = {
                i: math.exp(factor * sum(a * b for a, b in zip(ours, t, strict=True))) for i, t in theirs.items()
            }
            mixed = [sum(weights[i] * theirs[i][d] for i in several) / sum(weights.values()) for d in range(8)]
            total += sum((a - b) ** 2 for a, b in zip(ours, mixed, strict=True)) / 8 / 6
    assert made.terms(step)["mixture"] == pytest.approx(total, rel=1e-10)
    kd = world("kd")
    assert made.loss(step).item() == pytest.approx(kd.loss(step).item() + 2 * total, rel=1e-10)


def test_one_layer_a_block_is_plain_matching_of_that_layer(world, shape):
    """Patient KD without its scaling, summed over all layers in place of a mean over all but the last."""
    made = world("alp-kd", {"view": "buckets"}, teachers={"big": shape(3)})
    step = made.step()
    apart = [(step.student.cls[j].detach() - step.teacher.cls[j]).square().mean().item() for j in (1, 2, 3)]
    assert made.terms(step)["mixture"] == pytest.approx(sum(apart), rel=1e-10)
    patient = world("pkd", {"normalise": False, "layers": (1, 2)}, teachers={"big": shape(3)})
    assert patient.terms(step)["patience"] == pytest.approx(sum(apart[:2]) / 2, rel=1e-10)


def test_equal_teacher_layers_share_alike_and_mix_to_themselves(world, replaced):
    made = world("alp-kd")
    step = made.step()
    one = step.teacher.cls[4]
    said = with_states(step.teacher, dict.fromkeys(range(1, 7), one))
    apart = [(step.student.cls[j].detach() - one).square().mean().item() for j in (1, 2, 3)]
    equal = replaced(step, teachers={"big": said})
    assert made.terms(equal)["mixture"] == pytest.approx(sum(apart), rel=1e-10)
    made.method.after_step(equal)
    torch.testing.assert_close(made.method.matrices()["shares"], torch.full((3, 6), 1 / 6, dtype=torch.float64))
    assert made.method.notes()["layers in a mixture/mean"] == pytest.approx(6.0)


def test_the_order_of_teacher_layers_matters_only_within_blocks(world, replaced):
    order = dict(zip(range(1, 7), (4, 2, 6, 1, 5, 3), strict=True))
    for view, same in (("all", True), ("buckets", False)):
        made = world("alp-kd", {"view": view})
        step = made.step()
        moved = with_states(step.teacher, {place: step.teacher.cls[layer] for place, layer in order.items()})
        there, here = made.terms(replaced(step, teachers={"big": moved}))["mixture"], made.terms(step)["mixture"]
        assert (there == pytest.approx(here, rel=1e-12)) is same


def test_beta_zero_is_kd_and_reads_no_states(world, shape):
    made = world("alp-kd", {"beta": 0.0})
    assert made.stage().needs.student == {"logits": ()} == made.stage().needs.teacher
    step = made.step()
    assert torch.equal(made.loss(step), world("kd").loss(step))
    assert made.method.matrices() == {} == made.method.notes()
    world("alp-kd", {"beta": 0.0}, teachers={"big": shape(6, width=16)})


def test_the_mixture_gives_the_classifier_no_gradient_and_states_that_of_the_equation(world):
    """With constant shares the gradient is 2 (c - C) / (rows width); without, it is another."""
    gradients = {}
    for detach in (True, False):
        made = world("alp-kd", {"detach": detach})
        step = made.step()
        made.method.terms(step)["mixture"].value.backward()
        assert step.student.logits.grad is None
        gradients[detach] = step.student.cls[2].grad
    ours = step.student.cls[2].detach()
    theirs = torch.stack([step.teacher.cls[i] for i in range(1, 7)], dim=1)
    shares = torch.einsum("bw,bnw->bn", ours, theirs).softmax(-1)
    mixed = torch.einsum("bn,bnw->bw", shares, theirs)
    torch.testing.assert_close(gradients[True], 2 * (ours - mixed) / (6 * 8))
    assert (gradients[True] - gradients[False]).abs().max() > 1e-3


def test_a_mixture_lies_within_what_it_mixes(world):
    made = world("alp-kd", {"view": "overlapping"})
    made.method.after_step(step := made.step())
    assert made.terms(step)["mixture"] > 0
    shares = made.method.matrices()["shares"]
    assert shares.shape == (3, 6) and (shares >= 0).all()
    assert shares[0, 3:].sum() == 0 and shares[1, 0] == 0


def test_on_all_tokens_padding_is_not_seen(world, replaced):
    made = world("alp-kd", {"tokens": "all"})
    assert made.stage().needs.student == {"logits": (), "hidden": (1, 2, 3)}
    step = made.step()
    hidden = {
        layer: state.detach().masked_fill(step.student.mask[..., None] == 0, 7.0)
        for layer, state in step.student.hidden.items()
    }
    wild = replaced(step, students={"student": with_states(step.student, hidden, "hidden")})
    assert made.terms(wild)["mixture"] == made.terms(step)["mixture"]


def test_the_embedding_output_never_enters_and_nothing_is_learned_beside_the_student(world):
    made = world("alp-kd")
    assert 0 not in made.stage().needs.student["cls"] and 0 not in made.stage().needs.teacher["cls"]
    assert not list(made.method.parameters())


def test_unequal_widths_are_refused(world, shape):
    with pytest.raises(UserError, match=r"student\.width.*ALP-KD compares states directly"):
        world("alp-kd", teachers={"big": shape(6, width=16)})


def test_read_outs_are_of_all_parts_of_a_batch_and_only_of_training_steps(world):
    whole, parts = world("alp-kd"), world("alp-kd")
    one, other = whole.step(seed=1), whole.step(seed=2)
    for step in (one, other):
        parts.method.terms(step)
    with torch.no_grad():
        parts.method.terms(whole.step(seed=3))
    parts.method.after_step(other)
    each = []
    for step in (one, other):
        made = world("alp-kd")
        made.method.terms(step)
        made.method.after_step(step)
        each.append(made.method.matrices()["shares"])
    torch.testing.assert_close(parts.method.matrices()["shares"], (each[0] + each[1]) / 2)


def test_shares_move_while_it_trains():
    bench = Bench(("alp-kd", {}, "classification", 1))
    (stage,) = bench.ready()
    before = bench.method.matrices()["shares"].clone()
    torch.testing.assert_close(before, torch.full((2, 4), 0.25, dtype=torch.float64))
    bench.train(stage, 3, bench.batch())
    after = bench.method.matrices()["shares"]
    torch.testing.assert_close(after.sum(-1), torch.ones(2, dtype=torch.float64))
    assert (after - before).abs().max() > 1e-3
