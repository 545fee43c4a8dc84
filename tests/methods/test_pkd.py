"""Patient KD: its card but for 6 and 7 (soft targets, in tests/losses) and 10 (first layers, in tests/models)."""

from itertools import pairwise

import pytest
import torch

from kdcore.errors import UserError
from kdcore.layer_map import single
from kdcore.methods import METHODS, resolve
from tests.methods.contract import Contract

CONTRACT = Contract(variants=({"layers": "last", "normalise": False}, {"layers": (1,)}, {"tokens": "all"}))


def layer_map(shape, student, teacher, layers):
    method, config = resolve("pkd", {"layers": layers})
    return single(method.layer_map(config, shape(student), shape(teacher)))


@pytest.mark.parametrize(
    ("teacher", "student", "layers", "expected"),
    [
        (12, 6, "skip", [2, 4, 6, 8, 10]),
        (12, 3, "skip", [4, 8]),
        (12, 6, "last", [7, 8, 9, 10, 11]),
        (12, 3, "last", [10, 11]),
        (24, 6, "skip", [4, 8, 12, 16, 20]),
        (24, 6, (1, 2, 3, 4, 5), [1, 2, 3, 4, 5]),  # as their launch script names them
        # depths that do not divide: the nearest whole layer, halves up
        (6, 4, "skip", [2, 3, 5]),  # 1.5, 3, 4.5
        (12, 5, "skip", [2, 5, 7, 10]),  # 2.4, 4.8, 7.2, 9.6
        (12, 8, "skip", [2, 3, 5, 6, 8, 9, 11]),  # 1.5, 3, 4.5, 6, 7.5, 9, 10.5
        (4, 3, "skip", [1, 3]),  # 1.33, 2.67
        (3, 6, "skip", [1, 1, 2, 2, 3]),  # a deeper student: 0.5, 1, 1.5, 2, 2.5
        (12, 5, "last", [8, 9, 10, 11]),
        (4, 3, "last", [2, 3]),
        (6, 3, (1, 6), [1, 6]),
        (6, 3, "1,6", [1, 6]),
        (6, 2, "5", [5]),
    ],
)
def test_layer_map(shape, teacher, student, layers, expected):
    assert layer_map(shape, student, teacher, layers) == dict(enumerate(expected, start=1))


def test_a_map_has_a_layer_for_each_of_the_students_but_its_last(shape):
    for teacher in (3, 4, 6, 12, 24):
        for student in range(2, teacher + 1):
            for layers in ("skip", "last"):
                matched = layer_map(shape, student, teacher, layers)
                assert list(matched) == list(range(1, student))
                assert all(1 <= a <= b <= teacher for a, b in pairwise([*matched.values(), teacher]))


def test_impossible_maps_are_refused(shape, world):
    with pytest.raises(UserError, match=r"student\.layers.*1 layer"):
        layer_map(shape, 1, 6, "skip")
    with pytest.raises(UserError, match=r"options\.layers.*lists 3.*has 2"):
        layer_map(shape, 3, 6, (1, 2, 3))
    with pytest.raises(UserError, match=r"\[9\]"):
        layer_map(shape, 3, 6, (2, 9))
    with pytest.raises(UserError, match="no deeper"):
        layer_map(shape, 8, 6, "last")
    with pytest.raises(UserError, match=r"options\.layers"):
        resolve("pkd", {"layers": "middle"})
    with pytest.raises(UserError, match=r"student\.width.*8.*16.*big"):
        world("pkd", teachers={"big": shape(6, width=16)})


@pytest.mark.parametrize(
    ("teacher", "student", "layers", "pairs"),
    [
        (6, 3, "skip", ((1, 2), (2, 4))),
        (12, 6, "skip", ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10))),
        (12, 3, "skip", ((1, 4), (2, 8))),
        (12, 6, "last", ((1, 7), (2, 8), (3, 9), (4, 10), (5, 11))),
        (12, 3, "last", ((1, 10), (2, 11))),
    ],
)
@pytest.mark.parametrize("normalise", [True, False])
def test_equals_the_equation(world, shape, normalise, teacher, student, layers, pairs):
    options = {"alpha": 0.3, "temperature": 5.0, "beta": 100.0, "normalise": normalise, "layers": layers}
    made = world("pkd", options, student=shape(student), teachers={"big": shape(teacher)})
    step = made.step()
    total = 0.0
    for j, n in pairs:
        for s, t in zip(step.student.cls[j].detach(), step.teacher.cls[n], strict=True):
            s, t = (s / s.norm(), t / t.norm()) if normalise else (s, t)
            total += float(((s - t) ** 2).sum())
    patience = total / (6 * len(pairs) * 8)  # rows, layers, width
    kd = world("kd", {"alpha": 0.3, "temperature": 5.0})
    assert made.terms(step)["patience"] == pytest.approx(patience, rel=1e-10)
    assert made.loss(step).item() == pytest.approx(kd.loss(step).item() + 100 * patience, rel=1e-10)


@pytest.mark.parametrize("normalise", [True, False])
def test_patience_on_all_tokens_equals_the_equation(world, normalise):
    made = world("pkd", {"alpha": 0.3, "temperature": 5.0, "beta": 100.0, "normalise": normalise, "tokens": "all"})
    assert made.stage().needs.student == {"logits": (), "hidden": (1, 2)}
    assert made.stage().needs.teacher == {"logits": (), "hidden": (2, 4)}
    step = made.step()
    patience = 0.0
    for j, n in ((1, 2), (2, 4)):
        for b, length in enumerate(step.student.mask.sum(-1).tolist()):
            for i in range(length):
                s, t = step.student.hidden[j][b, i].detach(), step.teacher.hidden[n][b, i]
                s, t = (s / s.norm(), t / t.norm()) if normalise else (s, t)
                patience += float(((s - t) ** 2).sum()) / (6 * 2 * length * 8)  # rows, layers, the row's tokens, width
    kd = world("kd", {"alpha": 0.3, "temperature": 5.0})
    assert made.terms(step)["patience"] == pytest.approx(patience, rel=1e-10)
    assert made.loss(step).item() == pytest.approx(kd.loss(step).item() + 100 * patience, rel=1e-10)


def with_states(outputs, states):
    """The same states as [CLS] alone and as a whole."""
    cls = {layer: state[:, 0] for layer, state in states.items()}
    return type(outputs)({"logits": outputs.logits, "hidden": states, "cls": cls}, outputs.mask)


def test_only_patience_on_all_tokens_sees_the_tokens_and_none_sees_padding(world, replaced):
    whole = world("pkd", {"tokens": "all"}).step()
    mask, states = whole.student.mask.bool(), whole.student.hidden
    beside = mask.clone()
    beside[:, 0] = False

    def patience(kind, where):
        ours = {layer: state.detach().masked_fill(where[..., None], 7.0) for layer, state in states.items()}
        students = {"student": with_states(whole.student, ours)}
        teachers = {"big": with_states(whole.teacher, whole.teacher.hidden)}
        made = world("pkd", {"tokens": kind})
        return made.terms(replaced(whole, students=students, teachers=teachers))["patience"]

    nowhere = torch.zeros_like(mask)
    assert patience("cls", nowhere) == patience("cls", beside) == patience("cls", ~mask)
    assert patience("all", nowhere) == patience("all", ~mask)
    assert patience("all", beside) != pytest.approx(patience("all", nowhere), rel=0.01)


def test_reads_the_mapped_cls_states_only(world):
    needs = world("pkd").stage().needs
    assert needs.student == {"logits": (), "cls": (1, 2)} and needs.teacher == {"logits": (), "cls": (2, 4)}
    twice = world("pkd", {"layers": (5, 5)})
    assert twice.stage().needs.teacher["cls"] == (5,)
    assert "patience" in twice.terms(twice.step())


def test_equal_states_leave_no_patience(world, replaced):
    made = world("pkd", {"layers": (1, 2)})
    step = made.step()
    terms = made.terms(replaced(step, teachers={"big": step.student}))
    assert terms["patience"] == 0.0 and terms["soft"] == pytest.approx(0.0, abs=1e-12)


def scaled(step, replaced, factor):
    ours = step.student
    states = {layer: factor * state for layer, state in ours.cls.items()}
    return replaced(step, students={"student": type(ours)({"logits": ours.logits, "cls": states}, ours.mask)})


def test_only_normalised_patience_ignores_the_length_of_states(world, replaced):
    made, plain = world("pkd"), world("pkd", {"normalise": False})
    step = made.step()
    longer = scaled(step, replaced, 5.0)
    assert made.terms(longer)["patience"] == pytest.approx(made.terms(step)["patience"], rel=1e-10)
    assert plain.terms(longer)["patience"] != pytest.approx(plain.terms(step)["patience"], rel=0.1)


def test_normalised_patience_is_at_most_four_over_width(world, replaced):
    made = world("pkd", {"layers": (1, 2)})
    step = made.step()
    opposite = scaled(replaced(step, teachers={"big": step.student}), replaced, -2.0)
    assert made.terms(opposite)["patience"] == pytest.approx(4 / 8)
    assert 0 < made.terms(step)["patience"] < 4 / 8


def test_beta_zero_is_kd_and_reads_no_states(world, shape):
    options = {"alpha": 0.4, "temperature": 5.0}
    made = world("pkd", {**options, "beta": 0.0})
    assert made.stage().needs.student == {"logits": ()} == made.stage().needs.teacher
    step = made.step()
    assert torch.equal(made.loss(step), world("kd", options).loss(step))
    world("pkd", {"beta": 0.0}, student=shape(1), teachers={"big": shape(6, width=16)})


def test_alpha_and_beta_zero_are_fine_tuning_exactly(world):
    made = world("pkd", {"alpha": 0.0, "beta": 0.0})
    step = made.step()
    assert torch.equal(made.loss(step), world("fine-tune").loss(step))


def test_patience_gives_no_gradient_to_the_logits_and_states_none_to_the_teacher(world):
    made = world("pkd")
    step = made.step()
    made.method.terms(step)["patience"].value.backward()
    assert step.student.logits.grad is None
    assert all(state.grad is not None and state.grad.abs().sum() > 0 for state in step.student.cls.values())


def test_takes_exactly_one_teacher():
    assert METHODS["pkd"].teachers == (1, 1)


def test_the_published_weights_convert(world):
    """The authors' (1 - a) CE + a T^2 KL / C + b patience is ours up to one factor, as `departs` says."""
    a, b, classes = 0.7, 500.0, 3
    alpha = a / (a + classes * (1 - a))
    beta = b * (1 - alpha) / (1 - a)
    made = world("pkd", {"alpha": alpha, "beta": beta, "temperature": 10.0})
    terms = made.terms(made.step())
    published = (1 - a) * terms["hard"] + a * terms["soft"] / classes + b * terms["patience"]
    assert made.loss(made.step()).item() == pytest.approx(published * (1 - alpha) / (1 - a), rel=1e-10)


def test_the_conversion_of_the_preset_in_the_docstring():
    alpha = 0.7 / (0.7 + 2 * 0.3)
    assert (round(alpha, 2), round(500 * (1 - alpha) / 0.3, -1)) == (0.54, 770)
