"""Knowledge selection: four kinds of knowledge, the actor that weighs them, and what its critic learns from."""

import math
from dataclasses import replace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import METHODS
from kdcore.records import Outputs
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"selection": "all", "normalise": False},), trained=({"selection": "random", "action": "hard"},)
)

KINDS = ("hard", "soft", "hidden", "flow")
PLAIN = {"normalise": False, "noise": 0.0}


def selection(world, regression=False, **options):
    made = world("knowledge-selection", PLAIN | options, regression=regression)
    made.method.double()
    made.method.optimizers = made.method.own_optimizers()
    return made


def acting(made, *action):
    """The actor says this whatever it sees."""
    with torch.no_grad():
        made.method.actor[-1].bias.copy_(torch.tensor(action, dtype=torch.float64).logit())
    return made


def kl(said, row, t):
    p, q = ([math.exp(z / t) / sum(math.exp(o / t) for o in logits) for z in logits] for logits in (said, row))
    return t * t * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def slow_terms(step, t):
    student, teacher, labels = step.student, step.teacher, step.batch.labels.tolist()
    hard = soft = hidden = flow = 0.0
    for row, length in enumerate(student.mask.sum(-1).tolist()):
        ours, theirs = student.logits[row].tolist(), teacher.logits[row].tolist()
        hard += math.log(sum(math.exp(z) for z in ours)) - ours[labels[row]]
        soft += kl(theirs, ours, t)
        for j, n in {1: 2, 2: 4, 3: 6}.items():
            gap = student.hidden[j][row, :length] - teacher.hidden[n][row, :length]
            hidden += gap.square().mean(-1).sum().item() / length
        grams = [
            (said.hidden[0][row, :length].T @ said.hidden[last][row, :length]) / length
            for said, last in ((student, 3), (teacher, 6))
        ]
        flow += (grams[0] - grams[1]).square().mean().item()
    return dict(zip(KINDS, (each / 6 for each in (hard, soft, hidden, flow)), strict=True))


# --- the four kinds ---------------------------------------------------------------------------------------------------


def test_the_terms_equal_the_equations(world):
    made = selection(world, selection="all", temperature=3.0)
    step = made.step()
    expected = slow_terms(step, 3.0)
    assert made.terms(step) == pytest.approx(expected, rel=1e-10)
    assert made.loss(step).item() == pytest.approx(sum(expected.values()), rel=1e-10)


def test_labels_alone_are_fine_tuning_and_two_kinds_are_kd(world):
    made, step = selection(world), None
    step = made.step()
    acting(made, 1.0, 0.0, 0.0, 0.0)
    alone = world("fine-tune", {}, teachers=[])
    assert made.loss(step).item() == pytest.approx(alone.loss(step).item(), rel=1e-12)
    acting(made, 0.3, 0.7, 0.0, 0.0)
    assert made.loss(step).item() == pytest.approx(world("kd", {"alpha": 0.7}).loss(step).item(), rel=1e-12)


def test_terms_are_divided_by_their_running_means(world):
    made = selection(world, selection="all", normalise=True)
    step = made.step()
    weights = {name: float(term.weight) for name, term in made.method.terms(step).items()}
    first = made.terms(step)
    assert weights == pytest.approx({name: 1 / value for name, value in first.items()}, rel=1e-10), "the first: itself"
    made.method.after_step(step)
    other = made.step(seed=7, number=2)
    again = made.method.terms(other)
    assert {name: float(term.weight) for name, term in again.items()} == pytest.approx(weights, rel=1e-10)
    made.method.after_step(other)
    second = made.terms(other)
    found = {name: 1 / float(term.weight) for name, term in made.method.terms(other).items()}
    assert found == pytest.approx({name: (first[name] + second[name]) / 2 for name in KINDS}, rel=1e-10)
    anew = made.step(seed=7)  # the first of another student: no mean of the one before
    found = {name: 1 / float(term.weight) for name, term in made.method.terms(anew).items()}
    assert found == pytest.approx(second, rel=1e-10)
    made.method.after_step(anew)
    assert int(made.method.mean_value.count) == 1


# --- the actor --------------------------------------------------------------------------------------------------------


def test_it_begins_with_a_half_of_each_and_sees_the_last_states_of_the_batch(world):
    made = selection(world)
    step = made.step()
    assert [float(term.weight) for term in made.method.terms(step).values()] == [0.5] * 4
    (moment,) = made.method._new
    mean = [step.student.hidden[3][:, 0].mean(0), step.teacher.hidden[6][:, 0].mean(0)]
    torch.testing.assert_close(moment.state, torch.cat(mean).detach())
    assert moment.action.tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("action", "threshold", "expected"),
    [
        ((0.4, 0.6, 0.2, 0.9), 0.5, [0, 1, 0, 1]),
        ((0.4, 0.6, 0.2, 0.9), 0.39, [1, 1, 0, 1]),
        ((0.4, 0.3, 0.2, 0.1), 0.5, [1, 0, 0, 0]),  # never nothing
    ],
)
def test_hard_actions_flip_at_the_threshold(world, action, threshold, expected):
    made = acting(selection(world, action="hard", threshold=threshold), *action)
    assert [float(term.weight) for term in made.method.terms(made.step()).values()] == expected


@pytest.mark.parametrize("action", ["soft", "hard"])
def test_chance_comes_from_the_steps_own_generator(world, action):
    made = selection(world, selection="random", action=action)
    step, before, seen = made.step(), torch.get_rng_state(), []
    for seed in (1, 1, 2, 3, 4):
        step.rng.manual_seed(seed)
        seen.append([float(term.weight) for term in made.method.terms(step).values()])
    assert seen[0] == seen[1] and seen[0] not in seen[2:] and torch.equal(torch.get_rng_state(), before)
    values = {value for weights in seen for value in weights}
    assert values <= {0.0, 1.0} if action == "hard" else all(0 < value < 1 for value in values)


def test_noise_is_for_episodes_alone(world):
    made = selection(world, noise=0.3)
    weights = {
        stage: [float(term.weight) for term in made.method.terms(made.step(stage)).values()]
        for stage in ("episode-1", "distil")
    }
    assert weights["distil"] == [0.5] * 4
    assert all(0 <= each <= 1 and each != 0.5 for each in weights["episode-1"])


def test_the_students_gradient_is_the_weighted_sum_and_the_actor_has_none_of_it(world):
    made = acting(selection(world), 0.1, 0.2, 0.3, 0.4)
    step = made.step()
    leaves = [step.student.logits, *step.student.hidden.values()]
    found = torch.autograd.grad(made.loss(step), leaves)
    whole = [torch.zeros_like(leaf) for leaf in leaves]
    for weight, term in zip((0.1, 0.2, 0.3, 0.4), made.method.terms(step).values(), strict=True):
        gradients = torch.autograd.grad(term.value, leaves, allow_unused=True, retain_graph=True)
        whole = [sum_ + weight * (0 if g is None else g) for sum_, g in zip(whole, gradients, strict=True)]
    torch.testing.assert_close(list(found), whole, rtol=1e-10, atol=1e-14)
    made.loss(step).backward()
    assert all(parameter.grad is None for parameter in made.method.parameters())


# --- episodes ---------------------------------------------------------------------------------------------------------


def episode(made, losses, stage="episode-1", steps=None):
    """An episode of so many steps, with these losses on `select` as they are asked for. How often they were."""
    steps, told = steps or len(losses) - 1, iter(losses)
    asked = []

    def probe():
        asked.append(next(told))
        return {"loss": asked[-1]}

    for number in range(1, steps + 1):
        at = replace(made.step(stage, seed=number, number=number), steps=steps, probe=probe)
        made.loss(at).backward()
        made.method.after_step(at)
    return asked


def test_an_episode_has_one_probe_a_phase_and_one_before(world):
    made = selection(world, phases=4, exploration=0.0)
    losses = [1.0, 0.9, 0.95, 0.5, 0.5]
    assert episode(made, losses, steps=12) == losses
    assert made.method.rewards.tolist() == pytest.approx([0.1, -0.05, 0.45, 0.0], rel=1e-6)
    assert int(made.method.count) == 4 and not int(made.method.steps) and not made.method.state.any()
    (first, *_, last) = made.method.stages()
    assert first.probes == 5 and last.probes == 0
    assert episode(made, losses, stage="episode-2", steps=12) == losses
    assert int(made.method.count) == 4, "the next begins anew"
    assert episode(made, [], stage="distil", steps=3) == []


def test_what_is_kept_of_a_phase_are_means_over_its_steps(world):
    made = selection(world, phases=2, updates=1)
    episode(made, [1.0, 0.9, 0.8], steps=4)
    steps = [made.step("episode-1", seed=number) for number in (1, 2, 3, 4)]
    seen = [made.method._state(step) for step in steps]
    torch.testing.assert_close(made.method.states[0], (seen[0] + seen[1]) / 2)
    torch.testing.assert_close(made.method.states[1], (seen[2] + seen[3]) / 2)
    assert made.method.actions[0].tolist() == [0.5] * 4


def test_fewer_steps_than_phases_are_a_phase_each(world):
    made = selection(world, phases=10, exploration=0.0)
    assert episode(made, [1.0, 0.8, 0.7]) == [1.0, 0.8]
    assert made.method.rewards[:2].tolist() == pytest.approx([0.0, 0.2]) and int(made.method.count) == 2


def test_a_critic_of_a_reward_that_stays_comes_to_its_discounted_sum(world):
    """Q = r + discount Q: 0.3 / (1 - 0.5)."""
    made = selection(world, phases=4, discount=0.5, updates=400, critic_rate=3e-3)
    method = made.method
    method.states.copy_(torch.randn(16, generator=made.rng, dtype=torch.float64).expand(4, 16))
    method.actions.fill_(0.5)
    method.rewards.fill_(0.3)
    method.learn(4, last=False)
    value = method._value(method._features(method.states), method.actions)
    assert value.tolist() == pytest.approx([0.6] * 4, abs=0.02)


def test_nothing_follows_the_last_phase(world):
    made = selection(world, phases=2, discount=0.5, updates=600, critic_rate=3e-3)
    method = made.method
    method.states.copy_(torch.randn(2, 16, generator=made.rng, dtype=torch.float64))
    method.rewards.copy_(torch.tensor([0.1, 0.4]))
    method.actions.fill_(0.5)
    method.learn(2, last=True)
    value = method._value(method._features(method.states), method.actions)
    assert value.tolist() == pytest.approx([0.1 + 0.5 * 0.4, 0.4], abs=0.02)


def test_the_actor_climbs_what_the_critic_says(world):
    """The critic is made to like answers and to dislike flows."""
    made = selection(world, phases=3, updates=50, actor_rate=1e-2)
    method = made.method
    method._move = lambda name, loss, move=method._move: move(name, loss) if name == "actor" else None
    method._value = lambda seen, actions: actions[:, 1] - actions[:, 3]
    method.states.copy_(torch.randn(3, 16, generator=made.rng, dtype=torch.float64))
    method.learn(3, last=True)
    action = method._action(method.states[0], made.rng, explores=False)
    assert action[1] > 0.6 and action[3] < 0.4


def test_neither_moves_the_other(world):
    made = selection(world, phases=2, updates=1)
    method = made.method
    method.states.copy_(torch.randn(2, 16, generator=made.rng, dtype=torch.float64))
    method.rewards.fill_(1.0)
    moved, moves = {}, method._move
    for name in ("actor", "critic"):
        before = {key: value.clone() for key, value in method.state_dict().items()}
        method._move = lambda which, loss, name=name: moves(which, loss) if which == name else None
        method.learn(2, last=True)
        after = method.state_dict()
        moved[name] = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
    assert moved == {"actor": {"actor"}, "critic": {"critic", "student_state", "teacher_state"}}
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_an_action_unlike_those_before_earns_more(world, kind):
    made = selection(world, action=kind, exploration=2.0, phases=4, updates=1)
    method, novelty = made.method, []
    actions = [(1.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)]
    for action in actions:
        method.weights.copy_(torch.tensor(action))
        method.steps.fill_(1)
        method._end_phase(0.0, last=False)
    novelty = method.rewards.tolist()
    assert novelty == pytest.approx([0.0, 0.0, 2.0, 2.0] if kind == "soft" else [0.0, 1.0, 2.0, 2 / 3])


# --- stages, and what is told -----------------------------------------------------------------------------------------


def test_every_episode_and_the_last_training_begin_anew(world):
    *pilots, final = selection(world, episodes=2, episode_share=0.5).method.stages()
    assert [(stage.name, stage.pilot, stage.share) for stage in pilots] == [
        ("episode-1", True, 0.5), ("episode-2", True, 0.5),
    ]  # fmt: skip
    assert all(stage.start == "fresh" and not stage.trains("method") for stage in (*pilots, final))
    assert final.name == "distil" and not final.pilot
    method = METHODS["knowledge-selection"]
    assert method.pilots(method.Config(episodes=2, episode_share=0.5), 1) == 1.0
    for other in ("random", "all"):
        (alone,) = selection(world, selection=other).method.stages()
        assert not alone.pilot and method.pilots(method.Config(selection=other), 1) == 0.0
        assert not selection(world, selection=other).method.own_optimizers()


def test_rows_are_related_by_actions_and_means():
    method = METHODS["knowledge-selection"]
    assert method.relates_rows(method.Config()) and method.relates_rows(method.Config(selection="all"))
    assert not method.relates_rows(method.Config(selection="all", normalise=False))


def test_what_is_told_are_weights_and_the_last_reward(world):
    made = selection(world, phases=2, exploration=0.0)
    assert made.method.notes() == {}
    episode(made, [1.0, 0.75, 0.5], steps=4)
    notes = made.method.notes()
    assert notes.pop("reward/phase") == pytest.approx(0.25)
    assert list(notes) == [f"action/{kind}" for kind in KINDS] and all(0 < value < 1 for value in notes.values())


def test_other_widths_are_refused(world, shape):
    with pytest.raises(UserError, match=r"student\.width.*Knowledge selection compares states"):
        world("knowledge-selection", {}, teachers={"big": shape(6, width=16)})


def test_scores_have_the_same_four_kinds(world):
    made = selection(world, regression=True, selection="all")
    step = made.step()
    found = made.terms(step)
    gap = (step.student.logits - step.teacher.logits).square().mean().item()
    assert found["soft"] == pytest.approx(gap, rel=1e-10)
    assert found["hard"] == pytest.approx((step.student.logits[:, 0] - step.batch.labels).square().mean().item())


def test_equal_states_have_no_loss(world):
    made = selection(world, selection="all")
    step = made.step()
    teacher = step.teacher
    hidden = {j: teacher.hidden[n] for j, n in made.method.map.items()}
    same = Outputs({"logits": teacher.logits, "hidden": hidden}, teacher.mask)
    found = made.terms(replace(step, students={"student": same}))
    assert [found[kind] for kind in KINDS[1:]] == pytest.approx([0.0] * 3, abs=1e-12)
