"""Knowledge distillation from teachers that a policy chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from kdcore.losses.precision import full
from kdcore.losses.soft_targets import hard_labels, soft_rows
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    temperature_field,
    without_share,
)
from kdcore.methods.running_mean import RunningMean
from kdcore.methods.teacher_weights import Mixture
from kdcore.records import Needs, Paper, Setup, Stage, Step, Term, want

BASELINE_EPISODES = 10
"""Over about how many episodes the reward is averaged that a new one is compared with."""


@dataclass(frozen=True)
class Episode:
    """What one part of a batch adds to an episode.

    gradient: of the log chance of what was drawn, [teachers, state + 1], sum over rows. used: share of the rows that
    each teacher teaches, [teachers]. losses: hard and soft, [2].
    """

    gradient: Tensor
    used: Tensor
    losses: Tensor
    rows: int


class RLKD(Method):
    """RL-KD: a policy uses or skips each teacher for each row, and learns from how well the student then does.

    loss     (1 - alpha) hard + alpha soft
    hard     cross-entropy with the gold label, mean over rows
    soft     sum_k a_k T^2 KL(softmax(t_k / T) || softmax(s / T)) / max(1, sum_k a_k), mean over rows
    choice   a_k ~ Bernoulli(sigmoid(W x + b)_k), drawn for each row and teacher; all a_k are 1 in the first warm_share
             of the steps
    state    x = [r; p_1; c_1; ...; p_K; c_K]: r the first teacher's last [CLS] state, p_k = softmax(t_k), c_k the
             cross-entropy of p_k with the gold label
    policy   after each episode W and b move along (reward - baseline) times the mean over the episode's rows of the
             gradient of sum_k log(chance of a_k); baseline: mean of the rewards before
    reward   hard: -hard; hard-soft: -(hard + soft), means over the episode's batches; score: that + score_weight times
             the score on `select`; select: minus the cross-entropy on `select`
    shapes   s, t_k: logits [batch, classes]; y: [batch]; W: [K, width + K (classes + 1)]
    departs
      - sources: Of the paper the abstract, the introduction and its first table were read; the state, the logistic
        policy and that there are three rewards come from a review, the rest from a re-implementation by others. The
        paper's formulas of the rewards, its settings and main results are unverified.
      - temperature, alpha: 10 and 0.5 are the re-implementation's values. It has no T^2 and divides by K, skipped
        teachers counting as 0: with all chosen its 0.5 is an alpha of 0.5 / (0.5 + 0.5 T^2) = 0.0099 here, and ours
        draws more to the teachers.
      - state: r is of a frozen encoder in the paper, in the re-implementation of one base model more; the first
        teacher's costs nothing more. That all teachers are seen by one policy is the re-implementation's, which takes
        logits for probabilities. W and b start at 0, so that each teacher is used for half of the rows.
      - policy: The re-implementation moves it with the student's optimiser along reward times chance, without a
        logarithm, by the loss of the next batch. Here it has an Adam of its own, and no gradient of the student's.
      - baseline: Ours: rewards are below 0, and without one every choice would become less likely. The first episode
        only sets it.
      - reward: The three of the paper as they were read about. With hard-soft and score a student that no teacher
        teaches has no soft loss, which rewards skipping; select, the default, is ours and cannot be won so.
      - select: The paper's third reward uses the dev set; ours the rows kept aside from training, which also choose
        the best weights.
      - episodes: Their number, the policy's rate and score_weight are ours; the paper's are unverified.
      - policy_rate: Adam moves every weight by about this much an episode, whatever the reward's size: at ten times as
        much a few rewards decide, noise included.
      - warm_share: That the student begins with all teachers is the re-implementation's; a stage in which the policy
        alone learns (unverified) is left out.
      - use: A review can also be read as weighing teachers by their chances; that is not built in.
      - teachers: The paper's have other vocabularies; here all share the student's. Answers that are skipped are
        computed all the same, once, and kept.
      - parts: Where a batch is split into parts, each part draws alike.
      - scores: A score has no classes to choose by, so that tasks with scores are refused.
    """

    key = "rl-kd"
    title = "RL-KD"
    family = "choice"
    formula = r"""
    \mathcal{L} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= \frac{T^2}{\max(1, \sum_{k} a_{k})} \sum_{k=1}^{K} a_{k}\,
      \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T_k}/T) \,\big\|\, \operatorname{softmax}(z^{\mathrm
      S}/T)\bigr), \qquad a_{k} \sim \operatorname{Bernoulli}(\pi_{k}) \\
    \pi &= \sigma(W x + b), \qquad \Delta(W, b) \propto (r - \bar r) \sum_{\text{rows}} \sum_{k} \nabla \bigl(a_{k}
      \log \pi_{k} + (1-a_{k}) \log (1-\pi_{k})\bigr)
    """
    papers = (
        Paper(
            key="yuan2021reinforced",
            title="Reinforced Multi-Teacher Selection for Knowledge Distillation",
            authors="Fei Yuan, Linjun Shou, Jian Pei, Wutao Lin, Ming Gong, Yan Fu, Daxin Jiang",
            venue="AAAI",
            year=2021,
            arxiv="2012.06048",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits", "cls"))
    kinds = frozenset({"classification"})
    teachers = (2, 12)
    batch_relational = True

    class Config(MethodConfig):
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(10.0)
        warm_share: float = Field(
            0.2, ge=0, le=1, description="share of the steps, at the start, in which all teachers teach every row"
        )
        episodes: int = Field(20, ge=1, le=10_000, description="how often the policy is rewarded in the steps after")
        reward: Literal["hard", "hard-soft", "score", "select"] = Field(
            "select",
            description="what earns a reward: low training losses, a score too, or a low loss on rows kept aside",
        )
        score_weight: float = Field(1.0, ge=0, le=1e4, description="reward=score: how much the score counts")
        policy_rate: float = Field(0.001, gt=0, le=10, description="learning rate of the policy")

    config: Config
    policy: nn.Linear
    gradient: Tensor
    losses: Tensor
    steps: Tensor
    rows: Tensor
    reward: Tensor

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.names = list(setup.teachers)
        self.first = setup.teachers[self.names[0]]
        width = self.first.width + len(self.names) * (setup.labels + 1)
        self.policy = nn.utils.skip_init(nn.Linear, width, len(self.names))  # type: ignore[no-untyped-call]
        nn.init.zeros_(self.policy.weight)
        nn.init.zeros_(self.policy.bias)
        self.register_buffer("gradient", torch.zeros(len(self.names), width + 1, dtype=torch.float64))
        self.register_buffer("losses", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("reward", torch.zeros((), dtype=torch.float64))
        self.baseline = RunningMean(torch.zeros(()), BASELINE_EPISODES)
        self.used = RunningMean(torch.ones(len(self.names)))
        self._new: list[Episode] = []

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        without = without_share(config)
        return without | ({"choice of teachers": {"warm_share": 1.0}} if config.alpha and config.warm_share < 1 else {})

    @classmethod
    def mixture(cls, config: MethodConfig) -> Mixture | None:
        assert isinstance(config, cls.Config)
        return Mixture("changing", counted="used", temperature=config.temperature) if config.alpha else None

    @classmethod
    def relates_rows(cls, config: MethodConfig) -> bool:
        """All rows of a batch are drawn for from one generator."""
        assert isinstance(config, cls.Config)
        return config.warm_share < 1

    def own_optimizers(self) -> dict[str, Optimizer]:
        return {"policy": Adam(self.policy.parameters(), lr=self.config.policy_rate)}

    def stages(self) -> list[Stage]:
        first = {self.names[0]: want("logits", cls=(self.first.layers,))}
        needs = Needs(want("logits"), want("logits"), by=first)
        probes = self.config.episodes if self.config.reward in ("score", "select") else 0
        return [Stage("distil", needs, self.terms, lr={"student": 1.0}, probes=probes)]

    # --- terms ------------------------------------------------------------------------------------------------------

    def terms(self, step: Step) -> dict[str, Term]:
        config, logits = self.config, step.student.logits
        answers = [step.teachers[name].logits for name in self.names]
        chosen, state = self._choice(step, answers)
        each = torch.stack([soft_rows(logits, answer, config.temperature) for answer in answers], dim=-1)
        soft = ((chosen * each).sum(-1) / chosen.sum(-1).clamp(min=1)).mean()
        hard = hard_labels(logits, step.batch.labels, step.regression)
        if torch.is_grad_enabled():
            losses = torch.stack([hard.detach(), soft.detach()])
            score = self._score(state, chosen)
            self._new.append(Episode(score.double(), chosen.mean(0), losses.double(), len(chosen)))
        return {"hard": Term(hard, 1 - config.alpha), "soft": Term(soft, config.alpha)}

    @torch.no_grad()
    def _choice(self, step: Step, answers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What is drawn, [batch, teachers] of 0 and 1, and the state that it is drawn for, [batch, state]."""
        example = full(step.teachers[self.names[0]].cls[self.first.layers])
        seen = [example]
        for answer in answers:
            wrong = F.cross_entropy(full(answer), step.batch.labels, reduction="none")
            seen += [full(answer).softmax(-1), wrong[:, None]]
        state = torch.cat(seen, dim=-1)
        chance = self.policy(state).sigmoid()
        if step.step <= self._warm(step):
            return torch.ones_like(chance), state
        return torch.bernoulli(chance.cpu(), generator=step.rng).to(chance), state

    @torch.no_grad()
    def _score(self, state: Tensor, chosen: Tensor) -> Tensor:
        """The gradient of sum_k log(chance of a_k) with respect to W and b, side by side, sum over rows.

        That of one logistic unit is (a - chance) times its input (Williams 1992).
        """
        surprise = chosen - self.policy(state).sigmoid()
        gradient: Tensor = surprise.T @ F.pad(state, (0, 1), value=1.0)
        return gradient

    def _warm(self, step: Step) -> int:
        """How many steps of the stage all teachers teach every row."""
        return round(self.config.warm_share * step.steps)

    # --- the policy -------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        """Adds the step to the episode, and rewards the policy where the episode ends."""
        parts, self._new = self._new, []
        if not parts:
            return
        self.used.update(torch.stack([part.used for part in parts]).mean(0))
        done, whole = step.step - self._warm(step), step.steps - self._warm(step)
        if done <= 0:
            return
        self.gradient += torch.stack([part.gradient for part in parts]).sum(0)
        rows = sum(part.rows for part in parts)
        self.losses += torch.stack([part.losses * part.rows for part in parts]).sum(0) / rows
        self.rows += rows
        self.steps += 1
        if done * self.config.episodes // whole > (done - 1) * self.config.episodes // whole:
            self._learn(self._reward(step))
            for total in (self.gradient, self.losses, self.rows, self.steps):
                total.zero_()

    def _reward(self, step: Step) -> float:
        """The reward of the episode that ends here."""
        hard, soft = (self.losses / self.steps).tolist()
        if self.config.reward == "hard":
            return -float(hard)
        if self.config.reward == "hard-soft":
            return -float(hard + soft)
        loss, score, *_ = step.probe().values()
        return -loss if self.config.reward == "select" else -float(hard + soft) + self.config.score_weight * score

    def _learn(self, reward: float) -> None:
        """Moves the policy to where what was drawn is likelier, if it earned more than before, else less likely."""
        self.reward.fill_(reward)
        if int(self.baseline.count):
            advantage = reward - float(self.baseline.mean)
            slope = (-advantage * self.gradient / self.rows).to(self.policy.weight)
            self.policy.weight.grad, self.policy.bias.grad = slope[:, :-1].clone(), slope[:, -1].clone()
            optimizer = self.optimizers["policy"]
            optimizer.step()
            optimizer.zero_grad()
        self.baseline.update(self.reward)

    def notes(self) -> dict[str, float]:
        """The share of rows that each teacher is used for, smoothed over steps; the last reward and the mean so far."""
        used = {f"used/{name}": share for name, share in zip(self.names, self.used.mean.tolist(), strict=True)}
        if not int(self.baseline.count):
            return used
        return used | {"reward/last episode": float(self.reward), "reward/mean": float(self.baseline.mean)}
