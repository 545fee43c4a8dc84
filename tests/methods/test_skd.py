"""Stochastic KD: the card's invariants. Numbers 4 and 8 hold in whole runs too: tests/engine."""

import math
from collections import Counter

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import METHODS, resolve
from kdcore.methods.teacher_weights import by_rank, by_softmax
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"sampling": "teacher-rank", "mapping": "softmax"},),
    trained=({"sampling": "student-rank", "hard_label_weight": 0.5},),
)

NAMES = ["small", "medium", "large"]
SCORES = {"small": 0.70, "medium": 0.75, "large": 0.90}


def drawn(made, number=1, stage=None):
    """The teacher of one whole step."""
    step = made.step(stage, number=number)
    made.method.after_step(step)
    return next(iter(step.teachers))


def ranked(world, sampling, scores, **options):
    """The method with its ranking known: teacher scores given, or pilots told."""
    teachers = list(scores)
    if sampling != "student-rank":
        return world("skd", {"sampling": sampling, **options}, teachers=teachers, scores=scores)
    made = world("skd", {"sampling": sampling, **options}, teachers=teachers)
    for name, score in scores.items():
        made.method.after_stage(f"pilot-{name}", {"accuracy": score, "f1": 0.0})
    return made


@pytest.mark.parametrize("sampling", ["uniform", "teacher-rank", "student-rank"])
@pytest.mark.parametrize("mapping", ["rank", "softmax"])
def test_chances_are_positive_and_sum_to_one(world, sampling, mapping):
    chances = ranked(world, sampling, SCORES, mapping=mapping).method.probabilities()
    assert set(chances) == set(NAMES) and all(chance > 0 for chance in chances.values())
    assert abs(sum(chances.values()) - 1) < 1e-12


def test_uniform(world):
    assert ranked(world, "uniform", SCORES).method.probabilities() == dict.fromkeys(NAMES, 1 / 3)


@pytest.mark.parametrize("sampling", ["teacher-rank", "student-rank"])
def test_rank_by_hand(world, sampling):
    chances = ranked(world, sampling, {"small": 0.9, "medium": 0.2, "large": 0.5}).method.probabilities()
    assert chances == pytest.approx({"small": 3 / 6, "medium": 1 / 6, "large": 2 / 6})


def test_ranks_depend_on_the_order_only():
    scores = [0.4, -0.3, 0.9, 0.1]
    chances = by_rank(scores)
    assert chances == by_rank([2 * score for score in scores]) == by_rank([score + 5 for score in scores])
    assert by_rank(scores[::-1]) == chances[::-1]
    assert sorted(chances) == [chance for _, chance in sorted(zip(scores, chances, strict=True))]
    assert chances == pytest.approx([3 / 10, 1 / 10, 4 / 10, 2 / 10])


def test_ties_share_their_mean_rank():
    assert by_rank([0.5, 0.5, 0.5]) == pytest.approx([1 / 3] * 3)
    assert by_rank([0.5, 0.5, 0.9]) == pytest.approx([1.5 / 6, 1.5 / 6, 3 / 6])


def test_a_score_that_is_no_number_ranks_last():
    assert by_rank([math.nan, 0.2]) == pytest.approx([1 / 3, 2 / 3])
    assert by_softmax([math.nan, 0.2, 0.1], 0.1) == pytest.approx(by_softmax([0.1, 0.2, 0.1], 0.1))
    assert by_softmax([math.nan, math.nan], 0.1) == pytest.approx([0.5, 0.5])


def test_softmax_by_hand():
    assert by_softmax([0.8, 0.9], 0.1) == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])
    assert sum(by_softmax([0.0, 1000.0], 0.05)) == pytest.approx(1.0)


def test_the_mapping_is_a_choice(world):
    scores = {"small": 0.5, "medium": 0.5, "large": 0.6}
    made = ranked(world, "teacher-rank", scores, mapping="softmax", spread=0.1)
    total = 2 + math.e
    assert made.method.probabilities() == pytest.approx(
        {"small": 1 / total, "medium": 1 / total, "large": math.e / total}
    )
    assert ranked(world, "teacher-rank", scores).method.probabilities()["large"] == pytest.approx(3 / 6)


def test_one_teacher_is_asked_per_step_and_counts_add_up(world):
    made = world("skd", teachers=NAMES)
    steps = [made.step(number=number) for number in range(1, 51)]
    assert all(len(step.teachers) == 1 and list(step.rows.values()) == [None] for step in steps)
    assert made.method.notes() == {}
    for step in steps:
        made.method.after_step(step)
    counts = made.method.history()["counts"]
    assert sum(counts.values()) == 50
    notes = made.method.notes()
    assert {name: notes[f"draws/{name}"] for name in NAMES} == {name: counts[name] / 50 for name in NAMES}
    assert notes["chance/small"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("sampling", "mapping"), [("uniform", "rank"), ("teacher-rank", "rank"), ("student-rank", "softmax")]
)
def test_frequencies_follow_the_chances(world, sampling, mapping):
    made = ranked(world, sampling, SCORES, mapping=mapping)
    step = made.step()
    draws = 100_000
    counts = Counter(next(iter(made.method.pick_teachers(step))) for _ in range(draws))
    assert sum(counts.values()) == draws
    for name, chance in made.method.probabilities().items():
        assert abs(counts[name] / draws - chance) < 4 * math.sqrt(chance * (1 - chance) / draws)


def test_draws_use_the_steps_generator_alone(world):
    before = torch.get_rng_state()
    one, two, other = (world("skd", teachers=NAMES) for _ in range(3))
    other.rng.manual_seed(7)
    first, second = ([drawn(made, number) for number in range(1, 31)] for made in (one, two))
    assert first == second and len(set(first)) > 1
    assert [drawn(other, number) for number in range(1, 31)] != first
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("regression", [False, True])
def test_one_teacher_is_kd_without_hard_labels(world, regression):
    for sampling in ("uniform", "teacher-rank", "student-rank"):
        made = world("skd", {"sampling": sampling, "temperature": 3.0}, teachers=["big"], regression=regression)
        assert [stage.name for stage in made.method.stages()] == ["distil"]
        assert made.method.probabilities() == {"big": 1.0}
        kd = world("kd", {"alpha": 1.0, "temperature": 3.0}, regression=regression)
        for number in range(1, 4):
            step = made.step(number=number)
            assert torch.equal(made.loss(step), kd.loss(step))


def test_learns_from_the_drawn_teacher(world, replaced):
    made = world("skd", {"temperature": 2.0, "hard_label_weight": 0.25}, teachers=NAMES)
    step = made.step()
    kd = world("kd", {"alpha": 0.75, "temperature": 2.0})
    assert made.loss(step).item() == pytest.approx(kd.loss(step).item(), rel=1e-12)


def test_hard_labels_have_no_effect_by_default(world, replaced):
    made = world("skd", teachers=NAMES)
    step = made.step()
    other = type(step.batch)(step.batch.ids, (step.batch.labels + 1) % 3, step.batch.encodings)
    assert torch.equal(made.loss(replaced(step, batch=other)), made.loss(step))


def test_the_mean_over_draws_has_the_gradient_of_averaged_probabilities(world, replaced):
    """sum_k p_k grad L_k = grad of KD against sum_k p_k softmax(z_k / T): probabilities, not logits."""
    made = world("skd", {"sampling": "teacher-rank"}, teachers=NAMES, scores=SCORES)
    step = made.step()
    logits = step.student.logits
    said = {name: torch.randn(6, 3, generator=made.rng, dtype=torch.float64) * 3 for name in NAMES}
    chances = made.method.probabilities()
    mean = torch.zeros_like(logits)
    for name in NAMES:
        teacher = type(step.student)({"logits": said[name]}, step.student.mask)
        loss = made.loss(replaced(step, teachers={name: teacher}, rows={name: None}))
        mean += chances[name] * torch.autograd.grad(loss, logits)[0]
    target = sum(chances[name] * said[name].softmax(-1) for name in NAMES)
    cross_entropy = -(target * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(mean, torch.autograd.grad(cross_entropy, logits)[0], rtol=1e-9, atol=1e-12)


def descent(world, replaced, answers, sampling, mapping):
    """Logits after some steps of gradient descent, and the teachers drawn on the way."""
    made = ranked(world, sampling, SCORES, mapping=mapping, temperature=2.0, hard_label_weight=0.25)
    logits, names = torch.zeros(6, 3, dtype=torch.float64, requires_grad=True), []
    for number in range(1, 41):
        step = made.step(number=number)
        (name,) = step.teachers
        student, teacher = (type(step.student)({"logits": z}, step.student.mask) for z in (logits, answers[name]))
        loss = made.loss(replaced(step, students={"student": student}, teachers={name: teacher}))
        logits = (logits - torch.autograd.grad(loss, logits)[0]).detach().requires_grad_()
        names.append(name)
    return logits, tuple(names)


@pytest.mark.parametrize("agree", [True, False])
def test_only_where_teachers_differ_the_chances_change_the_student(world, replaced, agree):
    generator = torch.Generator().manual_seed(3)
    answers = {name: torch.randn(6, 3, generator=generator, dtype=torch.float64) for name in NAMES}
    if agree:
        answers = dict.fromkeys(NAMES, answers["large"])
    settings = [("uniform", "rank"), ("teacher-rank", "rank"), ("teacher-rank", "softmax")]
    ends, drawn_names = zip(*(descent(world, replaced, answers, *setting) for setting in settings), strict=True)
    assert len(set(drawn_names)) == len(settings), "the chances changed the draws"
    assert [torch.equal(ends[0], end) for end in ends[1:]] == [agree, agree]


def test_student_rank_runs_a_pilot_for_each_teacher_then_starts_afresh(world):
    made = world("skd", {"sampling": "student-rank"}, teachers=NAMES)
    *pilots, final = made.method.stages()
    assert [(stage.name, stage.teachers) for stage in pilots] == [(f"pilot-{name}", (name,)) for name in NAMES]
    assert all(stage.pilot and stage.start == "fresh" and stage.share == 1.0 for stage in pilots)
    assert not final.pilot and final.start == "fresh" and final.share == 1.0
    for name in NAMES:
        assert drawn(made, stage=f"pilot-{name}") == name
    assert not any(made.method.history()["counts"].values())


def test_pilots_are_priced(world):
    method = METHODS["skd"]
    for sampling, teachers, price in (("uniform", 3, 0), ("teacher-rank", 3, 0), ("student-rank", 3, 3), ("student-rank", 1, 0)):  # fmt: skip # noqa: E501
        config = resolve("skd", {"sampling": sampling})[1]
        assert method.pilots(config, teachers) == price
        made = world("skd", {"sampling": sampling}, teachers=NAMES[:teachers])
        assert sum(stage.pilot for stage in made.method.stages()) == price


def test_a_missing_score_is_said_when_it_is_needed(world):
    made = world("skd", {"sampling": "teacher-rank"}, teachers=NAMES, scores={**SCORES, "medium": None})
    made.method.stages()
    with pytest.raises(UserError, match="teacher-rank needs a score of medium"):
        made.step()
    early = world("skd", {"sampling": "student-rank"}, teachers=NAMES)
    with pytest.raises(UserError, match="student-rank needs a score of small, medium, large"):
        early.step("distil")


def test_counts_and_pilot_scores_travel_with_the_checkpoint(world):
    made = ranked(world, "student-rank", SCORES)
    for number in range(1, 11):
        drawn(made, number)
    again = world("skd", {"sampling": "student-rank"}, teachers=NAMES)
    again.method.restore_history(made.method.history())
    assert again.method.history() == made.method.history()
    assert again.method.notes() == made.method.notes()
    assert again.method.probabilities() == made.method.probabilities()
