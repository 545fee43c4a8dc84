"""Dynamic KD: teachers, rows and supervision that follow how unsure the student is.

That the student is scored alone, whatever the part, needs no test of its own: what scores it takes a model and rows,
and knows no method.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.errors import UserError
from kdcore.losses.soft_targets import uncertainty
from kdcore.methods import METHODS, resolve
from kdcore.records import Outputs
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"adoption": "soft", "distance": "kl"}, {"part": "rows", "selection": "none"}),
    trained=(
        {"adoption": "soft-instance", "detach": False},
        {"part": "rows", "ratio": 0.4},
        {"part": "supervision", "reverse": True},
    ),
)

NAMES = ("small", "large")


def dynamic(world, shape, teachers: int = 2, **options):
    sizes = {"small": shape(3), "large": shape(6)} if teachers == 2 else {"large": shape(6)}
    return world("dynamic-kd", options, teachers=sizes)


def slow_unsure(logits: torch.Tensor) -> list[float]:
    out = []
    for row in logits.tolist():
        p = [math.exp(z) for z in row]
        p = [each / sum(p) for each in p]
        out.append(-sum(each * math.log(each) for each in p) / math.log(len(row)))
    return out


def slow_mse(ours: torch.Tensor, theirs: torch.Tensor) -> list[float]:
    return [
        sum((s - t) ** 2 for s, t in zip(a, b, strict=True)) / len(a)
        for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)
    ]


def values(made, step) -> dict[str, float]:
    return {name: term.value.item() for name, term in made.method.terms(step).items()}


# --- who teaches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 5, 6])
def test_rows_are_shared_out_whole_with_the_surest_to_the_largest(world, shape, rows):
    made = dynamic(world, shape)
    step = made.step()
    logits = step.student.logits.detach()[:rows]
    few = replace(step, students={"student": Outputs({"logits": logits}, step.student.mask[:rows])})
    picked = made.method.pick_teachers(few)
    assert sorted(row for chosen in picked.values() for row in chosen.tolist()) == list(range(rows))
    unsure = torch.tensor(slow_unsure(logits))
    if rows == 1:
        assert list(picked) == ["large"]
        return
    assert len(picked["small"]) == rows // 2 and len(picked["large"]) == rows - rows // 2
    assert unsure[picked["small"]].min() >= unsure[picked["large"]].max()


def test_of_several_teachers_the_smallest_gets_the_rows_the_student_is_least_sure_of(world, shape):
    sizes = {"large": shape(12), "small": shape(2), "middle": shape(6)}
    made = world("dynamic-kd", teachers=sizes)
    step = made.step()
    picked, unsure = made.method.pick_teachers(step), torch.tensor(slow_unsure(step.student.logits.detach()))
    assert list(picked) == ["small", "middle", "large"] and all(len(rows) == 2 for rows in picked.values())
    assert unsure[picked["small"]].min() >= unsure[picked["middle"]].max() >= unsure[picked["large"]].max()


def test_adoption_by_rows_equals_the_equation(world, shape):
    made = dynamic(world, shape, soft_weight=2.0, hard_weight=0.5)
    step = made.step()
    for name in NAMES:
        rows, said = step.rows[name], step.teachers[name]
        # the hand-made teachers answer all rows
        step = replace(step, teachers={**step.teachers, name: Outputs({"logits": said.logits[rows]}, said.mask[rows])})
    expected = {
        f"soft/{name}": sum(slow_mse(step.student.logits[step.rows[name]], step.teachers[name].logits)) / 3
        for name in NAMES
    }
    found = values(made, step)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-10)
    total = 0.5 * found["hard"] + 2 * sum(expected.values())
    assert made.loss(step).item() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("adoption", ["soft", "soft-instance"])
def test_adoption_by_weights_equals_the_equation(world, shape, adoption):
    made = dynamic(world, shape, adoption=adoption)
    step = made.step()
    unsure = slow_unsure(step.student.logits.detach())
    if adoption == "soft":
        unsure = [sum(unsure) / 6] * 6
    small, large = (slow_mse(step.student.logits, step.teachers[name].logits) for name in NAMES)
    found = values(made, step)
    assert found["soft/small"] == pytest.approx(
        sum(u * each for u, each in zip(unsure, small, strict=True)) / 6, rel=1e-10
    )
    assert found["soft/large"] == pytest.approx(
        sum((1 - u) * each for u, each in zip(unsure, large, strict=True)) / 6, rel=1e-10
    )


@pytest.mark.parametrize(("adoption", "factor"), [("soft", 1), ("soft-instance", 1), ("hard", 2)])
def test_the_same_teacher_twice_is_kd_once_or_twice(world, shape, adoption, factor):
    """Two means over half the rows are added, so that sharing rows out pulls twice as hard."""
    made = dynamic(world, shape, adoption=adoption, distance="kl", temperature=5.0, hard_weight=0.0)
    step = made.step()
    one = step.teachers["large"]
    said = {
        name: one if rows is None else Outputs({"logits": one.logits[rows]}, one.mask[rows])
        for name, rows in step.rows.items()
    }
    same = replace(step, teachers=said)
    kd = world("kd", {"alpha": 1.0, "temperature": 5.0})
    alone = replace(step, teachers={"large": one}, rows={"large": None})
    assert made.loss(same).item() == pytest.approx(factor * kd.loss(alone).item(), rel=1e-10)


# --- which rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "asked"), [(0.5, 3), (0.1, 1), (0.99, 5), (1.0, 6)])
def test_so_many_rows_are_asked_and_never_none(world, shape, ratio, asked):
    made = dynamic(world, shape, 1, part="rows", ratio=ratio)
    step = made.step()
    rows = made.method.pick_teachers(step)["large"]
    assert len(set(rows.tolist())) == asked
    unsure = torch.tensor(slow_unsure(step.student.logits.detach()))
    rest = [row for row in range(6) if row not in rows.tolist()]
    assert not rest or unsure[rows].min() >= unsure[rest].max()


def test_all_rows_are_kd(world, shape):
    made = dynamic(world, shape, 1, part="rows", ratio=1.0, distance="kl", temperature=5.0, hard_weight=0.0)
    step = made.step()
    rows = step.rows["large"]
    said = Outputs({"logits": step.teacher.logits[rows]}, step.teacher.mask[rows])
    kd = world("kd", {"alpha": 1.0, "temperature": 5.0})
    expected = kd.loss(replace(step, rows={"large": None})).item()
    assert made.loss(replace(step, teachers={"large": said})).item() == pytest.approx(expected, rel=1e-10)
    assert (
        values(made, replace(step, teachers={"large": said}))["hard"]
        == kd.terms(replace(step, rows={"large": None}))["hard"]
    )


@pytest.mark.parametrize(("ratio", "asked"), [(0.5, 3), (0.1, 1), (1.0, 6)])
def test_asked_rows_equal_the_equation_and_gold_labels_count_in_all(world, shape, ratio, asked):
    made = dynamic(world, shape, 1, part="rows", ratio=ratio, soft_weight=3.0)
    step = made.step()
    unsure = slow_unsure(step.student.logits.detach())
    rows = sorted(range(6), key=lambda row: -unsure[row])[:asked]
    said = Outputs({"logits": step.teacher.logits[rows]}, step.teacher.mask[rows])
    found = values(made, replace(step, teachers={"large": said}))
    soft = sum(slow_mse(step.student.logits[rows], step.teacher.logits[rows])) / asked
    hard = 0.0
    for logits, label in zip(step.student.logits.tolist(), step.batch.labels.tolist(), strict=True):
        hard += (math.log(sum(math.exp(z) for z in logits)) - logits[label]) / 6
    assert found == pytest.approx({"hard": hard, "soft": soft}, rel=1e-10)


def test_with_two_classes_all_measures_of_doubt_choose_the_same_rows(world, shape):
    step = dynamic(world, shape, 1, part="rows").step()
    two = replace(step, students={"student": Outputs({"logits": step.student.logits[:, :2]}, step.student.mask)})
    picked = [
        dynamic(world, shape, 1, part="rows", selection=selection).method.pick_teachers(two)["large"].tolist()
        for selection in ("entropy", "margin", "confidence")
    ]
    assert picked[0] == picked[1] == picked[2]


def test_random_rows_come_from_the_steps_own_generator(world, shape):
    made = dynamic(world, shape, 1, part="rows", selection="random")
    step, before = made.step(), torch.get_rng_state()
    draws = []
    for seed in (1, 1, 2):
        step.rng.manual_seed(seed)
        draws.append(made.method.pick_teachers(step)["large"].tolist())
    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_none_chosen_is_all_rows(world, shape):
    made = dynamic(world, shape, 1, part="rows", selection="none", ratio=0.1)
    assert made.method.pick_teachers(made.step()) == {"large": None}


# --- which supervision ------------------------------------------------------------------------------------------------


def test_supervision_equals_the_equation(world, shape):
    made = dynamic(world, shape, 1, part="supervision", hidden_weight=3.0)
    assert made.method.map == {0: 0, 1: 2, 2: 4, 3: 6}
    step = made.step()
    unsure = slow_unsure(step.student.logits.detach())
    soft = slow_mse(step.student.logits, step.teacher.logits)
    hidden = 0.0
    for row, length in enumerate(step.student.mask.sum(-1).tolist()):
        for j, n in made.method.map.items():
            for at in range(length):
                s, t = step.student.hidden[j][row, at].detach(), step.teacher.hidden[n][row, at]
                hidden += unsure[row] * float(((s / s.norm() - t / t.norm()) ** 2).mean()) / length / 6
    found = values(made, step)
    assert found["soft"] == pytest.approx(
        sum((1 - u) * each for u, each in zip(unsure, soft, strict=True)) / 6, rel=1e-10
    )
    assert found["hidden"] == pytest.approx(hidden, rel=1e-10)
    total = found["hard"] + found["soft"] + 3 * hidden
    assert made.loss(step).item() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize(("scale", "gone"), [(1e6, "hidden"), (0.0, "soft")])
def test_a_sure_student_learns_answers_and_an_unsure_one_states(world, shape, scale, gone):
    made = dynamic(world, shape, 1, part="supervision")
    step = made.step()
    said = Outputs({"logits": scale * step.student.logits.detach(), "hidden": step.student.hidden}, step.student.mask)
    found = values(made, replace(step, students={"student": said}))
    assert found[gone] == pytest.approx(0.0, abs=1e-12)
    assert found[{"hidden": "soft", "soft": "hidden"}[gone]] > 1e-3


def test_the_length_of_the_teachers_states_does_not_count(world, shape):
    made = dynamic(world, shape, 1, part="supervision")
    step = made.step()
    longer = {layer: 7 * state for layer, state in step.teacher.hidden.items()}
    said = Outputs({"logits": step.teacher.logits, "hidden": longer}, step.teacher.mask)
    assert values(made, replace(step, teachers={"large": said})) == pytest.approx(values(made, step), rel=1e-10)


def test_reverse_swaps_sure_and_unsure(world, shape):
    plain, turned = (dynamic(world, shape, adoption="soft-instance", reverse=reverse) for reverse in (False, True))
    step = plain.step()
    swapped = replace(step, teachers={"small": step.teachers["large"], "large": step.teachers["small"]})
    found, expected = values(turned, step), values(plain, swapped)
    assert found["soft/small"] == pytest.approx(expected["soft/large"], rel=1e-10)
    hard = dynamic(world, shape, reverse=True)
    picked, unsure = hard.method.pick_teachers(step), uncertainty(step.student.logits.detach())
    assert unsure[picked["small"]].max() <= unsure[picked["large"]].min()


# --- gradients --------------------------------------------------------------------------------------------------------


def with_logits(step, logits):
    said = step.student
    tensors = {name: getattr(said, name) for name in said.names()} | {"logits": logits}
    return replace(step, students={"student": Outputs(tensors, said.mask)})


@pytest.mark.parametrize("part", ["teachers", "supervision"])
def test_uncertainty_is_a_constant_unless_it_is_asked_for(world, shape, part):
    options = {"part": part, "hard_weight": 0.0} | ({"adoption": "soft-instance"} if part == "teachers" else {})
    count = 2 if part == "teachers" else 1
    gradients = []
    for detach in (True, False):
        made = dynamic(world, shape, count, detach=detach, **options)
        step = made.step()
        (gradient,) = torch.autograd.grad(made.loss(step), step.student.logits)
        gradients.append(gradient)
    unsure = uncertainty(step.student.logits.detach())[:, None]
    apart = {name: 2 * (step.student.logits - said.logits).detach() / (3 * 6) for name, said in step.teachers.items()}
    if part == "teachers":
        torch.testing.assert_close(gradients[0], unsure * apart["small"] + (1 - unsure) * apart["large"])
    else:
        torch.testing.assert_close(gradients[0], (1 - unsure) * apart["large"])
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4
    free = dynamic(world, shape, count, detach=False, **options)
    assert gradcheck(lambda logits: free.loss(with_logits(step, logits)), step.student.logits)


# --- what fits, and what is told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "takes", "relates"),
    [
        ({}, (2, 12), True),
        ({"adoption": "soft"}, (2, 2), True),
        ({"adoption": "soft-instance"}, (2, 2), False),
        ({"part": "rows"}, (1, 1), True),
        ({"part": "rows", "selection": "none"}, (1, 1), False),
        ({"part": "supervision"}, (1, 1), False),
    ],
)
def test_settings_decide_teachers_and_whether_rows_are_related(options, takes, relates):
    method, config = resolve("dynamic-kd", options)
    assert method.takes(config) == takes and method.relates_rows(config) is relates


def test_other_numbers_of_teachers_and_widths_are_refused(world, shape):
    with pytest.raises(UserError, match=r"teachers.*part=teachers.*takes 2 to 12, not 1"):
        dynamic(world, shape, 1)
    with pytest.raises(UserError, match=r"teachers.*part=rows.*takes 1, not 2"):
        dynamic(world, shape, 2, part="rows")
    with pytest.raises(UserError, match=r"student\.width"):
        world("dynamic-kd", {"part": "supervision"}, teachers={"large": shape(6, width=16)})


def test_tasks_with_scores_are_not_taken():
    assert METHODS["dynamic-kd"].kinds == {"classification"}


def test_what_is_told(world, shape):
    made = dynamic(world, shape, 1, part="rows", ratio=0.5)
    step = made.step()
    said = Outputs({"logits": step.teacher.logits[step.rows["large"]]}, step.teacher.mask[step.rows["large"]])
    made.method.terms(replace(step, teachers={"large": said}))
    made.method.after_step(step)
    mean = sum(slow_unsure(step.student.logits.detach())) / 6
    assert made.method.notes() == pytest.approx({"uncertainty/mean": mean, "rows asked/large": 0.5})
