"""BERT-EMD: the cheapest transport between all layers, and masses that follow what it cost."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.errors import UserError
from kdcore.losses.attention import score_mse
from kdcore.losses.hidden import token_mse
from kdcore.losses.transport import score_costs, state_costs, transport_plan, unit_costs
from kdcore.methods import METHODS
from kdcore.methods.bert_emd import BERTEMD
from kdcore.records import Outputs
from tests.losses.test_transport import slow_plan
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(
    variants=({"beta": 1.0, "masses": "equal", "joint_masses": False}, {"beta": 0.0}),
    trained=({"alpha": 0.5, "beta": 1.0, "masses": "softmax", "mass_temperature": 5.0},),
)


def slow_costs(made, step) -> dict[str, torch.Tensor]:
    """D of states and attention, one pair of layers at a time."""
    mask, (ours, theirs) = step.teacher.mask, (range(1, layers + 1) for layers in made.method.depths)
    project = made.method.projection
    with torch.no_grad():
        states = [
            [token_mse(project(step.student.hidden[m]), step.teacher.hidden[n], mask) for n in theirs] for m in ours
        ]
        scores = [[score_mse([step.student.scores[m]], [step.teacher.scores[n]], mask) for n in theirs] for m in ours]
    return {"states": torch.tensor(states), "attention": torch.tensor(scores)}


def emd(world, **more):
    made = world("bert-emd", **more)
    made.method.double()
    return made


@pytest.fixture
def doubles(monkeypatch) -> None:
    """Lists of float64 scalars stay float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("width", [8, 12])
def test_equals_the_equations(world, shape, width):
    made = emd(world, options={"beta": 0.5, "alpha": 0.3}, teachers={"big": shape(6, width=width)})
    step = made.step()
    costs, even = slow_costs(made, step), [torch.full((n,), 1 / n) for n in (3, 6)]
    expected = {kind: float((transport_plan(each, *even) * each).sum()) for kind, each in costs.items()}
    mask, project = step.teacher.mask, made.method.projection
    expected["embedding"] = token_mse(project(step.student.hidden[0]), step.teacher.hidden[0], mask).item()
    terms = made.terms(step)
    for name, value in expected.items():
        assert terms[name] == pytest.approx(value, rel=1e-10), name
    kd = world("kd", {"alpha": 0.3, "temperature": 1.0})
    assert made.loss(step).item() == pytest.approx(kd.loss(step).item() + 0.5 * sum(expected.values()), rel=1e-10)


@pytest.mark.parametrize("masses", ["cost", "equal"])
def test_two_steps_equal_loops_over_numbers(world, shape, masses):
    """Costs one number at a time, the plan from all vertices, and the masses that the first step leaves the second."""
    made = emd(world, options={"beta": 1.0, "masses": masses}, student=shape(2), teachers={"big": shape(3)})
    ours, theirs = [0.5, 0.5], [1 / 3] * 3
    for seed in (1, 2):
        step = made.step(seed=seed)
        costs = {"states": slow_states(made, step), "attention": slow_scores(step)}
        sides = torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64)
        plans = {kind: slow_plan(each, *sides) for kind, each in costs.items()}
        terms = made.terms(step)
        for kind, plan in plans.items():
            assert terms[kind] == pytest.approx(float((plan * costs[kind].numpy()).sum()), rel=1e-10), kind
        made.method.after_step(step)
        if masses == "cost":
            ours, theirs = slow_masses(plans, costs, 1), slow_masses(plans, costs, 0)
        assert made.method.student_states.tolist() == pytest.approx(ours, rel=1e-9)
        assert made.method.teacher_attention.tolist() == pytest.approx(theirs, rel=1e-9)


def slow_states(made, step) -> torch.Tensor:
    """D of states of 2 and 3 layers."""
    weight, bias = made.method.projection.weight.tolist(), made.method.projection.bias.tolist()
    costs = torch.zeros(2, 3, dtype=torch.float64)
    for row, length in enumerate(step.teacher.mask.sum(-1).tolist()):
        for at in range(length):
            for i, j in itertools.product(range(2), range(3)):
                state, guide = (
                    side.hidden[n + 1][row, at].tolist() for side, n in ((step.student, i), (step.teacher, j))
                )
                mapped = [
                    sum(w * s for w, s in zip(line, state, strict=True)) + b
                    for line, b in zip(weight, bias, strict=True)
                ]
                apart = sum((a - b) ** 2 for a, b in zip(mapped, guide, strict=True)) / len(guide)
                costs[i, j] += apart / length / len(step.batch)
    return costs


def slow_scores(step) -> torch.Tensor:
    """D of attention of 2 and 3 layers."""
    costs = torch.zeros(2, 3, dtype=torch.float64)
    for row, length in enumerate(step.teacher.mask.sum(-1).tolist()):
        for i, j in itertools.product(range(2), range(3)):
            ours, theirs = step.student.scores[i + 1][row].tolist(), step.teacher.scores[j + 1][row].tolist()
            for a, b in zip(ours, theirs, strict=True):
                apart = sum((a[p][q] - b[p][q]) ** 2 for p in range(length) for q in range(length))
                costs[i, j] += apart / length**2 / len(ours) / len(step.batch)
    return costs


def slow_masses(plans, costs, dim: int) -> list[float]:
    """1 / cost of a unit of a layer's mass, of sum 1, mean of both kinds."""
    means = []
    for kind, plan in plans.items():
        units = (plan * costs[kind].numpy()).sum(dim) / plan.sum(dim)
        means.append((1 / units) / (1 / units).sum())
    return ((means[0] + means[1]) / 2).tolist()


@pytest.mark.usefixtures("doubles")
def test_costs_of_one_product_are_those_of_all_differences(world):
    made = emd(world)
    step = made.step()
    expected, mask = slow_costs(made, step), step.teacher.mask
    states = [made.method.projection(step.student.hidden[m]).detach() for m in (1, 2, 3)]
    layers = range(1, 7)
    torch.testing.assert_close(state_costs(states, [step.teacher.hidden[n] for n in layers], mask), expected["states"])
    scores = [step.student.scores[m].detach() for m in (1, 2, 3)]
    torch.testing.assert_close(
        score_costs(scores, [step.teacher.scores[n] for n in layers], mask), expected["attention"]
    )


def test_the_gradient_is_that_of_the_costs_times_the_plan(world, replaced):
    made = emd(world)
    step = made.step()

    def loss(state: torch.Tensor) -> torch.Tensor:
        hidden = {**step.student.hidden, 2: state}
        said = Outputs(
            {"logits": step.student.logits, "hidden": hidden, "scores": step.student.scores}, step.student.mask
        )
        return made.method.terms(replaced(step, students={"student": said}))["states"].value

    state = step.student.hidden[2]
    assert gradcheck(loss, state)
    (gradient,) = torch.autograd.grad(loss(state), state)
    plan = made.method._parts[-1]["states"][0]
    costs = [token_mse(made.method.projection(state), step.teacher.hidden[n], step.teacher.mask) for n in range(1, 7)]
    (expected,) = torch.autograd.grad(sum(plan[1, n] * cost for n, cost in enumerate(costs)), state)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("masses", ["cost", "softmax", "equal"])
@pytest.mark.parametrize("joint", [True, False])
def test_masses_stay_masses(world, masses, joint):
    made = emd(world, options={"masses": masses, "joint_masses": joint})
    for seed in range(4):
        step = made.step(seed=seed)
        made.method.terms(step)
        made.method.after_step(step)
        for side in ("student", "teacher"):
            found = {kind: getattr(made.method, f"{side}_{kind}") for kind in ("states", "attention")}
            for mass in found.values():
                assert (mass > 0).all() and mass.sum().item() == pytest.approx(1.0, abs=1e-12)
            assert torch.equal(found["states"], found["attention"]) is (joint or masses == "equal")
    if masses == "equal":
        assert made.method.student_states.tolist() == pytest.approx([1 / 3] * 3)


def test_new_masses_make_every_layer_cost_the_same(world):
    """w_i C_i is one number: the mass is 1 / cost of its unit."""
    made = emd(world, options={"joint_masses": False})
    step = made.step()
    made.method.terms(step)
    plan, costs = made.method._parts[-1]["attention"]
    made.method.after_step(step)
    for side, dim in (("student", 1), ("teacher", 0)):
        products = getattr(made.method, f"{side}_attention") * unit_costs(plan, costs, dim)
        torch.testing.assert_close(products, products.mean().expand_as(products))


def test_masses_of_the_papers_time_are_two_softmaxes(world):
    made = emd(world, options={"masses": "softmax", "mass_temperature": 3.0})
    step = made.step()
    made.method.terms(step)
    means = []
    for kind in ("states", "attention"):
        units = unit_costs(*made.method._parts[-1][kind], 1)
        means.append((units.sum() / units / 3.0).softmax(-1))
    made.method.after_step(step)
    expected = torch.stack(means).mean(0).softmax(-1)
    torch.testing.assert_close(made.method.student_states, expected)
    most = torch.tensor(1.0).exp() / (torch.tensor(1.0).exp() + 2)
    assert made.method.student_states.max() <= most, "the second softmax keeps every layer in play"


def test_a_layer_that_costs_nothing_takes_most_and_no_layer_is_lost(world):
    made = emd(world)
    costs = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    mass = made.method._new_mass(costs)
    assert mass.sum().item() == pytest.approx(1.0) and (mass > 0).all() and mass[0] > 0.99
    assert mass[1].item() == pytest.approx(4 * mass[2].item())
    assert made.method._new_mass(torch.zeros(4, dtype=torch.float64)).tolist() == pytest.approx([0.25] * 4)


def test_masses_are_used_from_the_next_step_on(world):
    made = emd(world)
    one, two = made.step(seed=1), made.step(seed=2)
    first = made.method.terms(one)["states"].value.item()
    assert made.method.terms(one)["states"].value.item() == first
    made.method._parts = made.method._parts[:1]
    made.method.after_step(one)
    fresh = emd(world)
    assert made.method.terms(two)["states"].value.item() != fresh.method.terms(two)["states"].value.item()


def test_permuting_teacher_layers_changes_nothing(world, replaced):
    made = emd(world)
    step = made.step()
    order = dict(zip(range(1, 7), (4, 2, 6, 1, 5, 3), strict=True))
    said, moved = step.teacher, {name: {} for name in ("hidden", "scores")}
    for place, layer in order.items():
        for name in moved:
            moved[name][place] = getattr(said, name)[layer]
    moved["hidden"][0] = said.hidden[0]
    other = replaced(step, teachers={"big": Outputs({"logits": said.logits, **moved}, said.mask)})
    assert made.terms(other) == pytest.approx(made.terms(step), rel=1e-9)


def test_beta_zero_is_soft_targets_alone(world, shape):
    made = world("bert-emd", {"beta": 0.0}, teachers={"big": shape(6, width=12)})
    assert made.stage().needs.student == {"logits": ()} == made.stage().needs.teacher
    step = made.step()
    kd = world("kd", {"alpha": 1.0, "temperature": 1.0})
    assert made.loss(step).item() == kd.loss(step).item()
    assert not list(made.method.parameters()) and made.method.matrices() == {} == made.method.notes()
    assert not BERTEMD.relates_rows(made.method.config) and BERTEMD.relates_rows(METHODS["bert-emd"].Config())


def test_unequal_heads_are_refused(world, shape):
    from dataclasses import replace

    with pytest.raises(UserError, match=r"student\.heads.*attention head by head.*beta"):
        world("bert-emd", teachers={"big": replace(shape(6), heads=4)})


def test_parts_of_a_batch_move_masses_once_and_by_their_mean(world):
    made = emd(world, options={"joint_masses": False})
    steps = [made.step(seed=seed) for seed in (1, 2)]
    for step in steps:
        made.method.terms(step)
    parts = [part["states"] for part in made.method._parts]
    plan, costs = (torch.stack([part[at] for part in parts]).mean(0) for at in (0, 1))
    with torch.no_grad():
        made.method.terms(made.step(seed=3))
    made.method.after_step(steps[1])
    units = unit_costs(plan, costs, 1)
    torch.testing.assert_close(made.method.student_states, (1 / units) / (1 / units).sum())
    before = made.method.student_states.clone()
    made.method.after_step(steps[1])
    assert torch.equal(made.method.student_states, before), "nothing new was seen"


def test_read_outs_are_a_transport():
    bench = Bench(("bert-emd", {"beta": 1.0}, "classification", 1))
    (stage,) = bench.ready()
    bench.train(stage, 3, bench.batch())
    for name in ("transport of states", "transport of attention"):
        matrix = bench.method.matrices()[name]
        assert matrix.shape == (2, 4) and (matrix >= 0).all() and matrix.sum().item() == pytest.approx(1.0)
    notes = bench.method.notes()
    assert set(notes) == {f"student mass/layer {m}" for m in (1, 2)} | {f"teacher mass/layer {n}" for n in (1, 2, 3, 4)}


def test_a_loss_that_is_no_number_stays_none(world, replaced):
    """The engine then says at which step, where a plan over such costs would not be found."""
    made = emd(world)
    step = made.step()
    hidden = {layer: torch.full_like(state, torch.nan) for layer, state in step.student.hidden.items()}
    said = Outputs({"logits": step.student.logits, "hidden": hidden, "scores": step.student.scores}, step.student.mask)
    assert made.terms(replaced(step, students={"student": said}))["states"] != made.terms(step)["states"]
    assert torch.isnan(made.method.terms(replaced(step, students={"student": said}))["states"].value)
