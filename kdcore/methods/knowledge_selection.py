"""Knowledge selection: an actor decides which knowledge counts at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.optim import Adam, Optimizer

from kdcore import layer_map
from kdcore.layer_map import LayerMap
from kdcore.losses.hidden import token_mse
from kdcore.losses.precision import full
from kdcore.losses.relation import flow_mse
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    rows_for_teacher,
    same_width,
    temperature_field,
)
from kdcore.methods.running_mean import RunningMean
from kdcore.models.projections import linear
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want

KINDS = ("hard", "soft", "hidden", "flow")
LEAST = 1e-6
"""The least that a term is divided by."""


@dataclass(frozen=True)
class Moment:
    """What one part of a batch saw. state: mean [CLS] states of student and teacher, [2 width]. action, values: [4]."""

    state: Tensor
    action: Tensor
    values: Tensor


class KnowledgeSelection(Method):
    """Knowledge selection: an actor looks at student and teacher and weighs labels, answers, states and their flow.

    loss     a_1 hard / m_1 + a_2 soft / m_2 + a_3 hidden / m_3 + a_4 flow / m_4
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    hidden   (h_j - g_m(j))^2, mean over width, a row's valid tokens, then rows, sum over the student's layers j = 1..M;
             m(j) = j N / M
    flow     (h_0^T h_M / n - g_0^T g_N / n)^2, mean over the entries of the matrix, then rows; n: a row's valid tokens,
             which alone count
    m        running mean of the term; normalise off: 1
    a        soft: sigmoid(actor(x)); hard: 1 where that is above the threshold, at least for the largest of the four,
             else 0. x = [f(h); g(t)]: h, t the last [CLS] states of student and teacher, mean over the batch; f and g
             of 2 layers, actor and critic Q of 3
    episode  a pilot training from fresh weights in phases, of each of which means are kept: x, a, and as reward r how
             far the cross-entropy on `select` fell, and exploration times how new a was (soft: 1 - its cosine with the
             phase before; hard: 1 over how often the episode had it)
    critic   (Q(x_i, a_i) - r_i - discount Q(x_i+1, a_i+1))^2, mean over the episode's phases i so far; after its last
             one nothing follows; f and g learn with it
    actor    ascends the mean of Q(x_i, sigmoid(actor(x_i))); in the stage distil it stands still
    shapes   h, g: [batch, tokens, width], equal widths; s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - sources: Of the paper the abstract was read, and a summary by others, written by a machine; no code was found.
        Which layers, which token states, how they are scaled, how a batch becomes one state, the sign of the reward and
        all settings are unverified.
      - critic: The summary has discount r + Q of the next phase, which has no bound; ours is the usual form, with the
        discount on what follows.
      - flow: Of embedding output and last layer, one matrix a row; which pairs of layers the paper takes is unverified.
      - normalise: Ours, since the four differ by orders of magnitude, which weights of at most 1 cannot mend. The
        mean is over about the last 50 steps, so that a term keeps its weight as it falls, and labels alone are not the
        steps of plain fine-tuning.
      - episodes: They cost episodes times episode_share of the run beside it. Few and short ones by default; numbers of
        episodes, phases and updates, rates and the actor's width are ours.
      - exploration: From the account; noise on a in the episodes, too, is ours.
      - reward: The first loss on `select` of an episode is taken after its first step. The paper uses the dev set,
        ours is rows kept aside from training, which also choose the best weights.
      - action=hard: The largest counts also where none is above the threshold, so that no step learns nothing.
      - selection: random is the paper's comparison; all, each kind at weight 1, is ours. Both have no episodes.
      - widths: Equal ones are asked for; the paper's students have the width of their teacher.
      - students: That the last student learns anew from fresh weights under a finished actor is from the account.
      - scores: The squared error is ours.
    """

    key = "knowledge-selection"
    title = "Knowledge selection"
    family = "choice"
    formula = r"""
    \mathcal{L} &= \sum_{i=1}^{4} \frac{a_{i}}{m_{i}}\, \mathcal{L}_{i}, \qquad a = \sigma\bigl(\mu([f(h^{\mathrm
      S}_{M}); g(h^{\mathrm T}_{N})])\bigr) \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr) \\
    \mathcal{L}_{\text{hidden}} &= \sum_{j=1}^{M} \frac{1}{n\,d} \left\| h^{\mathrm S}_{j} - h^{\mathrm T}_{m(j)}
      \right\|_F^2 \\
    \mathcal{L}_{\text{flow}} &= \frac{1}{d^2} \left\| \frac{1}{n} {h^{\mathrm S}_{0}}^{\top} h^{\mathrm S}_{M} -
      \frac{1}{n} {h^{\mathrm T}_{0}}^{\top} h^{\mathrm T}_{N} \right\|_F^2
    """
    papers = (
        Paper(
            key="wang2022improved",
            title="Improved Knowledge Distillation for Pre-trained Language Models via Knowledge Selection",
            authors="Chenglong Wang, Yi Lu, Yongyu Mu, Yimin Hu, Tong Xiao, Jingbo Zhu",
            venue="Findings of EMNLP",
            year=2022,
            arxiv="2302.00444",
        ),
    )
    needs = Needs(student=want("logits", "hidden"), teacher=want("logits", "hidden"))
    batch_relational = True

    class Config(MethodConfig):
        selection: Literal["actor", "random", "all"] = Field(
            "actor", description="what weighs the four kinds of knowledge: an actor, chance, or nothing"
        )
        action: Literal["soft", "hard"] = Field("soft", description="weights between 0 and 1, or on and off")
        threshold: float = Field(0.5, ge=0, le=1, description="action=hard: above it a kind counts")
        temperature: float = temperature_field(10.0)
        normalise: bool = Field(True, description="divide each term by its running mean")
        episodes: int = Field(3, ge=1, le=50, description="pilot trainings in which the actor learns")
        episode_share: float = Field(0.3, ge=0.01, le=10, description="steps of each, in multiples of the run's")
        phases: int = Field(10, ge=1, le=1000, description="of an episode; each has one reward, which takes one pass")
        discount: float = Field(0.99, ge=0, le=1, description="how much the phases that follow count")
        exploration: float = Field(0.1, ge=0, le=100, description="reward of an action unlike those before")
        noise: float = Field(0.1, ge=0, le=1, description="standard deviation of what is added to actions in episodes")
        updates: int = Field(10, ge=1, le=1000, description="steps of actor and critic after each phase")
        actor_rate: float = Field(1e-3, gt=0, le=1, description="learning rate of the actor")
        critic_rate: float = Field(1e-3, gt=0, le=1, description="learning rate of the critic and of f and g")
        width: int = Field(128, ge=4, le=1024, description="of the hidden layers of actor and critic")

    config: Config
    states: Tensor
    actions: Tensor
    rewards: Tensor
    count: Tensor
    state: Tensor
    weights: Tensor
    steps: Tensor
    before: Tensor

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        same_width(setup, "Knowledge selection compares states directly")
        (teacher,) = setup.teachers.values()
        self.map = layer_map.single(self.layer_map(config, setup.student, teacher))
        self.last = setup.student.layers, teacher.layers
        self.mean_value, self.mean_action = RunningMean(torch.ones(len(KINDS))), RunningMean(torch.ones(len(KINDS)))
        self._new: list[Moment] = []
        if config.selection == "actor":
            self._build(setup.student.width, teacher.width)

    def _build(self, ours: int, theirs: int) -> None:
        """Actor, critic, and what is kept of an episode."""
        config, count = self.config, len(KINDS)
        width, phases, seed = config.width, config.phases, self.setup.seed
        self.student_state = _perceptron([ours, width, width], seed)
        self.teacher_state = _perceptron([theirs, width, width], seed + 10)
        self.actor = _perceptron([2 * width, width, width, count], seed + 20)
        self.critic = _perceptron([2 * width + count, width, width, 1], seed + 30)
        nn.init.zeros_(self.actor[-1].weight)  # type: ignore[arg-type]  # it begins with one half of each
        for name, shape in (("states", (phases, ours + theirs)), ("actions", (phases, count)), ("rewards", (phases,)),
                            ("state", (ours + theirs,)), ("weights", (count,)), ("before", ())):  # fmt: skip
            self.register_buffer(name, torch.zeros(shape))
        for name in ("count", "steps"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @classmethod
    def pilots(cls, config: MethodConfig, teachers: int) -> float:
        assert isinstance(config, cls.Config)
        return float(sum([config.episode_share] * config.episodes)) if config.selection == "actor" else 0.0

    @classmethod
    def relates_rows(cls, config: MethodConfig) -> bool:
        """An action is of a whole batch, and so is the first mean of a term."""
        assert isinstance(config, cls.Config)
        return config.selection == "actor" or config.normalise

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """All layers, and the embedding outputs with one another."""
        return layer_map.alone({0: 0, **layer_map.spread(student.layers, teacher.layers)})

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        return {} if config.selection == "all" else {"choice of knowledge": {"selection": "all"}}

    def own_optimizers(self) -> dict[str, Optimizer]:
        if self.config.selection != "actor":
            return {}
        judges = [*self.critic.parameters(), *self.student_state.parameters(), *self.teacher_state.parameters()]
        return {
            "actor": Adam(self.actor.parameters(), lr=self.config.actor_rate),
            "critic": Adam(judges, lr=self.config.critic_rate),
        }

    def stages(self) -> list[Stage]:
        config, (ours, theirs) = self.config, layer_map.sides(self.map)
        needs = Needs(want("logits", hidden=ours), want("logits", hidden=theirs))
        final = Stage("distil", needs, self.terms, lr={"student": 1.0}, start="fresh")
        if config.selection != "actor":
            return [final]
        episodes = [
            Stage(
                f"episode-{number}", needs, self.terms, config.episode_share, {"student": 1.0}, start="fresh",
                pilot=True, probes=config.phases + 1,
            )
            for number in range(1, config.episodes + 1)
        ]  # fmt: skip
        return [*episodes, final]

    # --- terms ------------------------------------------------------------------------------------------------------

    def terms(self, step: Step) -> dict[str, Term]:
        values = torch.stack([self._hard(step), self._soft(step), self._hidden(step), self._flow(step)])
        state = self._state(step)
        action = self._action(state, step.rng, explores=step.stage != "distil")
        weights = action
        if self.config.normalise:
            known = step.step > 1 and int(self.mean_value.count)  # of this student, not of an episode's before it
            mean = self.mean_value.mean if known else values.detach()
            weights = action / mean.to(action).clamp(min=LEAST)
        if torch.is_grad_enabled():
            self._new.append(Moment(state, action, values.detach()))
        return {name: Term(value, weight) for name, value, weight in zip(KINDS, values, weights, strict=True)}

    def _hard(self, step: Step) -> Tensor:
        return hard_labels(step.student.logits, step.batch.labels, step.regression)

    def _soft(self, step: Step) -> Tensor:
        ours = rows_for_teacher(step, step.student.logits)
        return teacher_signal(ours, step.teacher.logits, self.config.temperature, step.regression)

    def _hidden(self, step: Step) -> Tensor:
        ours, theirs, mask = step.student.hidden, step.teacher.hidden, step.teacher.mask
        each = [token_mse(rows_for_teacher(step, ours[j]), theirs[n], mask) for j, n in self.map.items() if j]
        return torch.stack(each).sum()

    def _flow(self, step: Step) -> Tensor:
        m, n = self.last
        first, last = (rows_for_teacher(step, step.student.hidden[layer]) for layer in (0, m))
        return flow_mse(first, last, step.teacher.hidden[0], step.teacher.hidden[n], step.teacher.mask)

    # --- what the actor sees and does -------------------------------------------------------------------------------

    @torch.no_grad()
    def _state(self, step: Step) -> Tensor:
        """The last [CLS] states, mean over the batch, side by side: [2 width]."""
        ours = rows_for_teacher(step, step.student.hidden[self.last[0]])
        return torch.cat([full(states[:, 0]).mean(0) for states in (ours, step.teacher.hidden[self.last[1]])])

    @torch.no_grad()
    def _action(self, state: Tensor, rng: Generator, explores: bool) -> Tensor:
        """The weight of each kind, [4]."""
        config, count = self.config, len(KINDS)
        if config.selection == "all":
            return torch.ones(count).to(state)
        if config.selection == "random":
            action = torch.rand(count, generator=rng).to(state)
        else:
            action = self.actor(self._features(state)).sigmoid()
            if explores and config.noise:
                action = (action + config.noise * torch.randn(count, generator=rng).to(state)).clamp(0, 1)
        if config.action == "soft":
            return action
        return ((action > config.threshold) | (action == action.max())).to(state)

    def _features(self, states: Tensor) -> Tensor:
        """x of states [..., 2 width]."""
        width = self.setup.student.width
        return torch.cat([self.student_state(states[..., :width]), self.teacher_state(states[..., width:])], dim=-1)

    # --- episodes ---------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        """Takes in what the batch's parts saw; in an episode, rewards the phase that ends here."""
        parts, self._new = self._new, []
        if not parts:
            return
        state, action, values = (
            torch.stack([getattr(part, name) for part in parts]).mean(0) for name in ("state", "action", "values")
        )
        if step.step == 1:
            self.mean_value.count.zero_()
        self.mean_value.update(values)
        self.mean_action.update(action)
        if step.stage == "distil":
            return
        loss = _once(step)
        if step.step == 1:
            self.count.zero_()
            self.before.fill_(loss())
        self.state += state
        self.weights += action
        self.steps += 1
        phases = self.config.phases
        if step.step * phases // step.steps > (step.step - 1) * phases // step.steps:
            self._end_phase(loss(), last=step.step == step.steps)

    def _end_phase(self, loss: float, last: bool) -> None:
        """Keeps the phase with its reward, and learns from the episode so far."""
        row = int(self.count)
        action = self.weights / self.steps
        self.states[row], self.actions[row] = self.state / self.steps, action
        self.rewards[row] = self.before - loss + self.config.exploration * self._novelty(row)
        self.before.fill_(loss)
        self.count += 1
        for total in (self.state, self.weights, self.steps):
            total.zero_()
        self.learn(row + 1, last)

    def _novelty(self, row: int) -> Tensor:
        """How unlike those before it the action of this phase is, 0 to 1; 0 for the first."""
        actions = self.actions[: row + 1]
        if not row:
            return torch.zeros(()).to(actions)
        if self.config.action == "soft":
            return 1 - F.cosine_similarity(actions[row], actions[row - 1], dim=0)
        rounded = actions.round()
        return 1 / (rounded == rounded[row]).all(-1).sum()

    def learn(self, count: int, last: bool) -> None:
        """Critic and actor move after the first `count` phases of an episode. last: none follows."""
        states, actions, rewards = self.states[:count], self.actions[:count], self.rewards[:count]
        known = count if last else count - 1
        if not known:  # the actor would climb a critic that has learned nothing
            return
        for _ in range(self.config.updates):
            values = self._value(self._features(states), actions)
            following = F.pad(values.detach()[1:], (0, 1))
            target = rewards + self.config.discount * following
            self._move("critic", F.mse_loss(values[:known], target[:known]))
            seen = self._features(states).detach()
            self._move("actor", -self._value(seen, self.actor(seen).sigmoid()).mean())

    def _value(self, seen: Tensor, actions: Tensor) -> Tensor:
        """Q, [phases]."""
        value: Tensor = self.critic(torch.cat([seen, actions], dim=-1))[:, 0]
        return value

    def _move(self, name: str, loss: Tensor) -> None:
        """One step of this optimiser down the loss; what else has a gradient of it stays."""
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[name].step()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()

    def notes(self) -> dict[str, float]:
        """The weight of each kind, smoothed over steps, and the reward of the last phase."""
        if not int(self.mean_action.count):
            return {}
        told = {f"action/{kind}": value for kind, value in zip(KINDS, self.mean_action.mean.tolist(), strict=True)}
        rewarded = self.config.selection == "actor" and int(self.count)
        return told | ({"reward/phase": float(self.rewards[int(self.count) - 1])} if rewarded else {})


def _once(step: Step) -> Callable[[], float]:
    """The loss on `select`, asked for at most once a step."""
    kept: list[float] = []

    def loss() -> float:
        if not kept:
            kept.append(step.probe()["loss"])
        return kept[0]

    return loss


def _perceptron(widths: list[int], seed: int) -> nn.Sequential:
    """Linear maps between these widths with relu between them; weights of the seed."""
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(widths)):
        layers += [linear(before, after, seed + place), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
