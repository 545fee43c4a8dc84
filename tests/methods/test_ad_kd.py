"""AD-KD: maps of what the answer rests on, by its card.

Its points 1, 4 and 5 are in tests/losses/test_gradient.py.
"""

import math

import pytest
import torch

from kdcore.errors import UserError
from kdcore.losses.gradient import saliency_map
from kdcore.methods import METHODS
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(
    variants=({"path_steps": 3}, {"beta": 0.0}), trained=({"anneal": True, "beta": 20.0, "temperature": 4.0},)
)


def slow_map(model, batch, row: int, loss, top: int, steps: int) -> list[float]:
    """The map of one row without padding: loss of its logits, integrated gradients as the card writes them."""
    length = int(batch.encoding.attention_mask[row].sum())
    ids = batch.encoding.input_ids[row : row + 1, :length]
    with torch.no_grad():
        e = model(input_ids=ids, output_hidden_states=True).hidden_states[0]
    total = torch.zeros_like(e)
    for k in range(1, steps + 1):
        start = (e * (k / steps)).detach().requires_grad_()
        handle = model.bert.embeddings.register_forward_hook(lambda *_, start=start: start)
        total += torch.autograd.grad(loss(model(input_ids=ids).logits[0]), start)[0] / steps
        handle.remove()
    a = []
    for gradient, state in zip(total[0].tolist(), e[0].tolist(), strict=True):
        products = sorted((abs(g * x) for g, x in zip(gradient, state, strict=True)), reverse=True)
        a.append(math.sqrt(sum(product**2 for product in products[: top or None])))
    return [each / math.sqrt(sum(x * x for x in a)) for each in a]


def slow_attribution(made, step, losses, top: int = 0, steps: int = 1) -> float:
    """losses: of each view, from logits [classes] and the row's label."""
    total = 0.0
    for row, label in enumerate(step.batch.labels):
        for loss in losses:
            ours = slow_map(made.models["student"], step.batch, row, lambda z, f=loss, y=label: f(z, y), 0, steps)
            theirs = slow_map(made.models["big"], step.batch, row, lambda z, f=loss, y=label: f(z, y), top, steps)
            total += sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / len(ours) / len(step.batch)
    return total


LOG_LOSSES = [lambda z, y, v=v: -z.log_softmax(-1)[v] for v in range(3)]


@pytest.mark.parametrize("top", [0, 3])
@pytest.mark.parametrize("width", [8, 12])
def test_equals_the_equations(world, shape, top, width):
    made = world("ad-kd", {"alpha": 0.3, "beta": 1.7, "top": top}, teachers={"big": shape(6, width=width)})
    step = made.step()
    expected = slow_attribution(made, step, LOG_LOSSES, top)
    assert made.terms(step)["attribution"] == pytest.approx(expected, rel=1e-10)
    kd = world("kd", {"alpha": 0.3, "temperature": 2.0})
    assert made.loss(step).item() == pytest.approx(kd.loss(step).item() + 1.7 * expected, rel=1e-10)


def test_scores_have_the_map_of_their_supervised_loss(world):
    made = world("ad-kd", regression=True)
    step = made.step()
    expected = slow_attribution(made, step, [lambda z, y: (z[0] - y) ** 2])
    assert made.terms(step)["attribution"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("regression", [False, True])
def test_a_path_is_the_mean_of_its_gradients(world, regression):
    made = world("ad-kd", {"path_steps": 3}, regression=regression)
    step = made.step()
    odds = [lambda z, y, v=v: (z.softmax(-1)[v] / (1 - z.softmax(-1)[v])).log() for v in range(3)]
    losses = [lambda z, y: z[0]] if regression else odds
    assert made.terms(step)["attribution"] == pytest.approx(slow_attribution(made, step, losses, steps=3), rel=1e-10)
    one = world("ad-kd", {"path_steps": 1}, regression=regression)
    assert made.terms(step)["attribution"] != pytest.approx(one.terms(step)["attribution"], rel=1e-3)


@pytest.mark.parametrize("options", [{}, {"top": 3}, {"path_steps": 2}])
def test_the_second_derivative_is_that_of_finite_differences(world, options):
    """Through both factors of the student's saliency, gradient and embedding output."""
    made = world("ad-kd", options)
    step = made.step()

    def term() -> torch.Tensor:
        return made.method.terms(step)["attribution"].value

    for name in ("bert.embeddings.position_embeddings.weight", "bert.encoder.layer.1.output.dense.weight"):
        weight = made.models["student"].get_parameter(name)
        along = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
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
        assert float((gradient * along).sum()) == pytest.approx(slope, rel=1e-6), name


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_same_model_has_the_same_map_unless_dimensions_are_left_out(kind):
    for top, zero in ((0, True), (16, True), (5, False)):
        bench = Bench(("ad-kd", {"top": top}, kind, 1), equal=True)
        (stage,) = bench.ready()
        for model in (*bench.students.values(), *bench.teachers.values()):
            model.double()
        value = stage.terms(bench.step(stage, bench.batch()))["attribution"].value.item()
        assert value == pytest.approx(0, abs=1e-12) if zero else value > 1e-6, top


def maps(bench, classes: int) -> list[torch.Tensor]:
    """Of the student, one a class, from -log p."""
    model = bench.students["student"].double()
    model.classifier = torch.nn.Linear(16, classes, dtype=torch.float64)
    (stage,) = bench.ready()
    batch = bench.batch()
    outputs = bench.student_outputs(stage, batch.encoding)["student"]
    again = outputs.rerun()
    found = []
    for v in range(classes):
        (g,) = torch.autograd.grad(-again.logits.log_softmax(-1)[:, v].sum(), again.hidden[0], retain_graph=True)
        found.append(saliency_map((g * again.hidden[0]).norm(dim=-1), outputs.mask).detach())
    return found


def test_two_classes_have_one_map_and_three_have_three():
    one, other = maps(Bench(("ad-kd", {}, "classification", 1)), 2)
    torch.testing.assert_close(one, other)
    found = maps(Bench(("ad-kd", {}, "classification", 1)), 3)
    assert all((found[v] - found[w]).abs().max() > 1e-3 for v, w in ((0, 1), (0, 2), (1, 2)))


def test_a_gradient_is_taken_for_each_of_three_classes_and_once_else(world):
    made = world("ad-kd", {"path_steps": 4})
    assert (made.stage().needs.passes, made.stage().needs.gradients) == (4, 3)
    assert world("ad-kd", regression=True).stage().needs.gradients == 1
    from dataclasses import replace

    two = METHODS["ad-kd"](METHODS["ad-kd"].Config(), replace(made.setup, labels=2))
    assert two.stages()[0].needs.gradients == 1


def test_the_gradient_reaches_words_and_all_layers_of_the_student_and_nothing_of_the_teacher(world):
    made = world("ad-kd")
    made.method.terms(made.step())["attribution"].value.backward()
    student = made.models["student"]
    assert student.bert.embeddings.word_embeddings.weight.grad.any()
    assert all(layer.output.dense.weight.grad.any() for layer in student.bert.encoder.layer)
    assert all(parameter.grad is None for parameter in made.models["big"].parameters())


def test_beta_zero_is_kd_bit_for_bit(world):
    made = world("ad-kd", {"beta": 0.0, "top": 10_000})
    (stage,) = made.method.stages()
    assert not stage.needs.rerun
    kd = world("kd", {"alpha": 0.5, "temperature": 2.0})
    assert torch.equal(made.loss(made.step()), kd.loss(made.step()))


def test_t_falls_from_its_start_to_1_and_keeps_its_weight(world):
    made = world("ad-kd", {"anneal": True, "temperature": 4.0, "beta": 0.0})
    for number, temperature in ((1, 4.0), (34, 3.0), (67, 2.0), (100, 1.0)):
        step = made.step(number=number)
        at = world("kd", {"temperature": temperature}).terms(step)["soft"]
        assert made.terms(step)["soft"] == pytest.approx(at * (4 / temperature) ** 2, rel=1e-10)
    constant = world("ad-kd", {"temperature": 4.0, "beta": 0.0})
    assert constant.terms(constant.step(number=67)) == constant.terms(constant.step(number=1))


def test_more_dimensions_than_the_teacher_has_are_refused(world):
    with pytest.raises(UserError, match=r"options\.top.*8 dimensions, not 9.*0 for all"):
        world("ad-kd", {"top": 9})
    world("ad-kd", {"top": 8})


def test_the_published_weights_convert(world):
    """Their (1 - a) CE + a soft cross-entropy at T + b attribution is ours up to one factor, as `departs` says."""
    a, temperature, b = 0.8, 2.0, 1.0
    w = a / temperature**2 + 1 - a
    alpha, beta = a / temperature**2 / w, b / w
    config = METHODS["ad-kd"].Config()
    assert (config.alpha, config.beta, config.temperature) == (pytest.approx(alpha), pytest.approx(beta), temperature)
    made = world("ad-kd", {"alpha": alpha, "beta": beta})
    terms = made.terms(made.step())
    published = (1 - a) * terms["hard"] + a * terms["soft"] / temperature**2 + b * terms["attribution"]
    assert made.loss(made.step()).item() == pytest.approx(published / w, rel=1e-10)
