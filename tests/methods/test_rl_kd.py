"""RL-KD: whom a policy lets teach which rows, its own gradient, and what it is rewarded for."""

import math
from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck

from kdcore.methods import METHODS
from kdcore.records import Outputs
from tests.methods.contract import Contract

CONTRACT = Contract(trained=({"warm_share": 0.0, "episodes": 25, "reward": "score"},))

NAMES = ("small", "large")
DRAWN = {"warm_share": 0.0}


def policy(world, shape, bias=None, names=NAMES, **options):
    """With a policy in float64; bias: of each teacher, in place of weights."""
    made = world("rl-kd", DRAWN | options, teachers={name: shape(3) for name in names})
    made.method.double()
    linear = made.method.policy
    with torch.no_grad():
        if bias is None:
            linear.weight.copy_(0.3 * torch.randn(linear.weight.shape, generator=made.rng, dtype=torch.float64))
        else:
            linear.bias.copy_(torch.tensor(bias))
    made.method.optimizers = made.method.own_optimizers()
    return made


def kl(said, row, t):
    p, q = ([math.exp(z / t) / sum(math.exp(other / t) for other in logits) for z in logits] for logits in (said, row))
    return t * t * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def slow_state(step):
    """[r; p_1; c_1; ...] of each row, one number at a time."""
    states = []
    for row in range(len(step.batch)):
        state = step.teachers[NAMES[0]].cls[3][row].tolist()
        for name in NAMES:
            exp = [math.exp(z) for z in step.teachers[name].logits[row].tolist()]
            p = [each / sum(exp) for each in exp]
            state += [*p, -math.log(p[int(step.batch.labels[row])])]
        states.append(state)
    return states


def slow_chances(method, states):
    rows = zip(method.policy.weight.tolist(), method.policy.bias.tolist(), strict=True)
    weights = [(weight, bias) for weight, bias in rows]
    return [
        [1 / (1 + math.exp(-sum(w * x for w, x in zip(weight, state, strict=True)) - bias)) for weight, bias in weights]
        for state in states
    ]


# --- whom it lets teach -----------------------------------------------------------------------------------------------


def test_the_soft_term_is_the_mean_over_those_that_were_drawn(world, shape):
    made = policy(world, shape, temperature=3.0)
    step = made.step()
    made.rng.manual_seed(5)
    chances = torch.tensor(slow_chances(made.method, slow_state(step)), dtype=torch.float64)
    drawn = torch.bernoulli(chances, generator=made.rng).tolist()
    assert {sum(row) for row in drawn} == {0, 1, 2}, "rows of none, one and both"
    expected = 0.0
    for row, chosen in enumerate(drawn):
        each = [kl(step.teachers[n].logits[row].tolist(), step.student.logits[row].tolist(), 3.0) for n in NAMES]
        expected += sum(a * one for a, one in zip(chosen, each, strict=True)) / max(1, sum(chosen)) / len(drawn)
    made.rng.manual_seed(5)
    assert made.terms(step)["soft"] == pytest.approx(expected, rel=1e-10)


def test_everybody_is_averaged_kd_in_its_gradient(world, shape):
    """The mean of divergences and the divergence from the mean differ by a constant."""
    made = policy(world, shape, [1e3, 1e3], temperature=3.0, alpha=1.0)
    step = made.step()
    wkd = world("wkd", {"temperature": 3.0}, teachers=NAMES)
    (ours,), (theirs,) = (torch.autograd.grad(each.loss(step), step.student.logits) for each in (made, wkd))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_one_alone_is_kd(world, shape, name):
    made = policy(world, shape, [1e3 if name == each else -1e3 for each in NAMES])
    step = made.step()
    alone = replace(step, teachers={name: step.teachers[name]}, rows={name: None})
    assert made.loss(step).item() == pytest.approx(world("kd").loss(alone).item(), rel=1e-12)


def test_nobody_leaves_the_gold_labels_and_no_nan(world, shape):
    made = policy(world, shape, [-1e3, -1e3])
    step = made.step()
    assert made.terms(step)["soft"] == 0.0
    (gradient,) = torch.autograd.grad(made.loss(step), step.student.logits)
    hard = made.method.terms(step)["hard"]
    torch.testing.assert_close(gradient, hard.weight * torch.autograd.grad(hard.value, step.student.logits)[0])


def test_all_teach_at_first(world, shape):
    made = policy(world, shape, [-1e3, -1e3], warm_share=0.3)
    step = made.step()
    soft = [made.terms(replace(step, step=number))["soft"] for number in (1, 30, 31, 100)]
    assert soft[0] == soft[1] > 0 == soft[2] == soft[3]


def test_it_begins_by_a_coin_for_each(world, shape):
    made = policy(world, shape, [0.0, 0.0])
    assert set(slow_chances(made.method, slow_state(made.step()))[0]) == {0.5}


def test_the_width_of_its_state(world, shape):
    made = world("rl-kd", {}, teachers={"small": shape(3, width=16), "large": shape(6), "huge": shape(9)})
    assert tuple(made.method.policy.weight.shape) == (3, 16 + 3 * (3 + 1))


def test_draws_come_from_the_steps_own_generator(world, shape):
    made = policy(world, shape, [0.0, 0.0])
    step, before, seen = made.step(), torch.get_rng_state(), []
    for seed in (1, 1, 2):
        step.rng.manual_seed(seed)
        seen.append(made.terms(step)["soft"])
    assert seen[0] == seen[1] != seen[2] and torch.equal(torch.get_rng_state(), before)


# --- what it learns from ----------------------------------------------------------------------------------------------


def test_its_gradient_is_that_of_the_log_chance_of_what_was_drawn(world, shape):
    made = policy(world, shape)
    step = made.step()
    made.rng.manual_seed(4)
    made.method.terms(step)
    (part,) = made.method._new
    made.rng.manual_seed(4)
    chosen, state = made.method._choice(step, [step.teachers[name].logits for name in NAMES])
    assert state.tolist() == [pytest.approx(row, rel=1e-10) for row in slow_state(step)]

    def log_chance(weight, bias):
        chance = (state @ weight.T + bias).sigmoid()
        return (chosen * chance.log() + (1 - chosen) * (1 - chance).log()).sum()

    leaves = made.method.policy.weight, made.method.policy.bias
    assert gradcheck(log_chance, leaves)
    weight, bias = torch.autograd.grad(log_chance(*leaves), leaves)
    torch.testing.assert_close(part.gradient, torch.cat([weight, bias[:, None]], 1), rtol=1e-10, atol=1e-12)


def episode(made, step, *rewards):
    """Episodes of one step each, with these losses on `select`. The weights before and after each."""
    seen = [torch.cat([p.detach().flatten().clone() for p in made.method.policy.parameters()])]
    for number, reward in enumerate(rewards, start=1):
        made.rng.manual_seed(4)
        made.loss(step).backward()
        made.method.after_step(replace(step, step=number, probe=lambda loss=-reward: {"loss": loss, "accuracy": 0.75}))
        seen.append(torch.cat([p.detach().flatten().clone() for p in made.method.policy.parameters()]))
    return seen


@pytest.mark.parametrize(("second", "sign"), [(-0.9, 1), (-1.1, -1), (-1.0, 0)])
def test_what_earned_more_than_before_becomes_likelier(world, shape, second, sign):
    made = policy(world, shape, episodes=100)
    step = made.step()
    made.rng.manual_seed(4)
    chosen, state = made.method._choice(step, [step.teachers[name].logits for name in NAMES])
    before, first, after = episode(made, step, -1.0, second)
    assert torch.equal(before, first), "the first episode only sets the baseline"

    def log_chance(flat):
        weight, bias = flat[: -len(NAMES)].view(len(NAMES), -1), flat[-len(NAMES) :]
        chance = (state @ weight.T + bias).sigmoid()
        return (chosen * chance.log() + (1 - chosen) * (1 - chance).log()).sum().item()

    moved = log_chance(after) - log_chance(before)
    assert (moved > 0) - (moved < 0) == sign


def test_no_gradient_goes_between_policy_and_student(world, shape):
    made = policy(world, shape)
    step = made.step()
    made.loss(step).backward()
    assert step.student.logits.grad.abs().sum() > 0
    assert all(p.grad is None for p in made.method.policy.parameters())
    assert all(not said.logits.requires_grad for said in step.teachers.values())
    (part,) = made.method._new
    assert not part.gradient.requires_grad and not part.losses.requires_grad


def test_an_episode_is_a_sum_that_is_empty_after_it(world, shape):
    """Of 100 steps 20 are left to all teachers; 8 episodes of 10 follow."""
    made = policy(world, shape, warm_share=0.2, episodes=8, reward="hard")
    step, ends = made.step(), []
    for number in range(1, 101):
        at = replace(step, step=number)
        made.method.terms(at)
        made.method.terms(at)  # a batch in two parts
        before = int(made.method.rows)
        made.method.after_step(at)
        if not int(made.method.rows) and number > 20:
            ends.append((number, before + 12))
            assert not made.method.gradient.any() and not made.method.losses.any() and not int(made.method.steps)
    assert ends == [(number, 120) for number in range(30, 101, 10)]
    assert int(made.method.baseline.count) == 8


@pytest.mark.parametrize("reward", ["hard", "hard-soft", "score", "select"])
def test_rewards_are_those_of_the_equations(world, shape, reward):
    made = policy(world, shape, episodes=50, reward=reward, score_weight=2.0)
    step, losses = made.step(), []
    asked = []

    def probe():
        asked.append(reward)
        return {"loss": 0.4, "accuracy": 0.75, "f1": 0.1}

    for number in (1, 2):
        found = made.terms(step)
        losses.append((found["hard"], found["soft"]))
        made.method.after_step(replace(step, step=number, probe=probe))
    hard, soft = (sum(each) / 2 for each in zip(*losses, strict=True))
    expected = {"hard": -hard, "hard-soft": -hard - soft, "score": -hard - soft + 1.5, "select": -0.4}[reward]
    assert made.method.notes()["reward/last episode"] == pytest.approx(expected, rel=1e-10)
    assert len(asked) == (reward in ("score", "select"))
    (stage,) = made.method.stages()
    assert stage.probes == (50 if asked else 0)


def test_a_baseline_is_the_mean_of_the_rewards_before(world, shape):
    made = policy(world, shape, episodes=100)
    episode(made, made.step(), -1.0, -2.0, -6.0)
    notes = made.method.notes()
    assert notes["reward/last episode"] == -6.0 and notes["reward/mean"] == pytest.approx(-3.0)


def test_what_is_told_is_for_how_many_rows_each_was_used(world, shape):
    made = policy(world, shape, [1e3, -1e3])
    assert made.method.notes() == {"used/small": 1.0, "used/large": 1.0}
    step = made.step()
    made.method.terms(step)
    made.method.after_step(replace(step, probe=lambda: {"loss": 1.0, "accuracy": 1.0}))
    assert made.method.notes()["used/small"] == 1.0 and made.method.notes()["used/large"] == 0.0
    with torch.no_grad():
        made.method.terms(step)
    assert not made.method._new, "a judgement is no step"


def test_the_students_gradient_is_that_of_finite_differences(world, shape):
    made = policy(world, shape)
    step = made.step()

    def loss(logits):
        made.rng.manual_seed(4)
        said = Outputs({"logits": logits}, step.student.mask)
        return made.loss(replace(step, students={"student": said}))

    assert gradcheck(loss, step.student.logits)


def test_whom_it_takes():
    assert METHODS["rl-kd"].kinds == {"classification"} and METHODS["rl-kd"].teachers == (2, 12)
    method = METHODS["rl-kd"]
    assert method.relates_rows(method.Config()) and not method.relates_rows(method.Config(warm_share=1.0))
