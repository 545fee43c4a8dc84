"""Distillation beside mutual learning of peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcore.errors import UserError
from kdcore.losses.soft_targets import ensemble_signal, hard_labels, teacher_signal
from kdcore.methods.base import (
    Ablations,
    Build,
    Method,
    MethodConfig,
    TaskKind,
    one_term_less,
    rows_for_teacher,
    temperature_field,
    without_weight,
)
from kdcore.methods.running_mean import RunningMean
from kdcore.methods.teacher_weights import Mixture
from kdcore.records import Needs, Paper, Setup, Stage, Step, Term, want

if TYPE_CHECKING:
    from kdcore.config import RunConfig

STUDENT, TEACHER = "student", "teacher"


class Peers(Method):
    """KD with peers: several students learn at once, each from the teacher, from the gold labels and from the others.

    loss     hard_weight hard + soft_weight soft + peer_weight peer + teacher
    hard     cross-entropy with the gold label, mean over rows, sum over students; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s_k / T)), mean over rows, sum over students k; for scores: (s_k - t)^2;
             several teachers: the mean of their probabilities at T (of their scores) stands for softmax(t / T)
    peer     T^2 KL(softmax(s_j / T) || softmax(s_k / T)), mean over rows and over the others j of each student k, sum
             over k; s_j is a constant in it; for scores: (s_k - s_j)^2
    teacher  teacher=online and mutual alone: the teacher's own hard term; with mutual also answer_weight times the mean
             over k of T^2 KL(softmax(s_k / T) || softmax(t / T)), s_k a constant
    shapes   s_k, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - sources: The paper is about medical images. Of it the abstract and the first lines of the introduction were
        read, and no code was found: the loss is the usual sum of its two ingredients. Its weights, T, number of
        students, direction of KL and whether the teacher hears the students are unverified. Text and scores are ours.
      - weights: 1 for each term and T = 2 are ours; an alpha of our KD is soft_weight alpha and hard_weight 1 - alpha.
      - teacher: The paper trains the teacher together with the students, which is online. frozen, the default, is a
        finished teacher whose answers are kept. An online teacher starts as a copy of the finished one, not anew, and
        learns at the run's rate.
      - students: The first is the one that is chosen, kept and exported. The paper reports the students as an ensemble,
        which costs as many times as much as one; how it averages them is unverified. Here each and the mean of their
        probabilities is scored at the end, with the last weights.
      - initial weights: Each student draws what is new in it with a seed of its own. What comes from a teacher or a
        base is the same in all, so that they then differ by their classifier and their dropout alone;
        with init=teacher the classifier comes from there, too, and without dropout they are one student.
      - update: All students move at once, from what the others said before; mutual learning was first described with
        one after the other.
      - dropout: Peers teach with theirs on, since each runs once a step; so does an online teacher.
      - clip: Each model's gradient is clipped by itself.
    """

    key = "peers"
    title = "KD with peers"
    family = "soft_targets"
    formula = r"""
    \mathcal{L} &= \sum_{k=1}^{K} \Bigl( \lambda_{\text{hard}}\,\mathcal{L}_{\text{hard}}(z^{(k)}) +
      \lambda_{\text{soft}}\,\mathcal{L}_{\text{soft}}(z^{(k)}) +
      \lambda_{\text{peer}}\,\mathcal{L}_{\text{peer}}(z^{(k)}) \Bigr), \qquad z^{(1)} = z^{\mathrm S} \\
    \mathcal{L}_{\text{hard}}(z^{(k)}) &= -\log \operatorname{softmax}(z^{(k)})_{y} \\
    \mathcal{L}_{\text{soft}}(z^{(k)}) &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{(k)}/T)\bigr) \\
    \mathcal{L}_{\text{peer}}(z^{(k)}) &= \frac{T^2}{K-1} \sum_{j \neq k}
      \mathrm{KL}\bigl(\operatorname{softmax}(z^{(j)}/T) \,\big\|\, \operatorname{softmax}(z^{(k)}/T)\bigr)
    """
    papers = (
        Paper(
            key="niyaz2021augmenting",
            title="Augmenting Knowledge Distillation With Peer-To-Peer Mutual Learning For Model Compression",
            authors="Usma Niyaz, Deepti R. Bathula",
            venue="arXiv",
            year=2021,
            arxiv="2110.11023",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits"))
    teachers = (1, 12)
    unlabelled = ("soft_weight", "peer_weight")

    class Config(MethodConfig):
        students: int = Field(2, ge=2, le=4, description="how many learn together; each costs as much as the first")
        teacher: Literal["frozen", "online", "mutual"] = Field(
            "frozen", description="a finished teacher, one that learns beside the students, or from them too"
        )
        hard_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the gold labels")
        soft_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the teacher's answers")
        peer_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the other students' answers")
        answer_weight: float = Field(
            1.0, ge=0, le=1e4, description="teacher=mutual: weight of the students' answers for the teacher"
        )
        temperature: float = temperature_field(2.0)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.peers = (STUDENT, *(f"peer-{number}" for number in range(2, config.students + 1)))
        self.online = config.teacher != "frozen"
        self.agreement = RunningMean(torch.ones(()))
        self._new: list[Tensor] = []

    @classmethod
    def takes(cls, config: MethodConfig) -> tuple[int, int]:
        """One that learns, or any number of finished ones."""
        assert isinstance(config, cls.Config)
        return cls.teachers if config.teacher == "frozen" else (1, 1)

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        """A teacher that learns, too, needs labels."""
        assert isinstance(config, cls.Config)
        return config.teacher == "frozen" and super().uses_unlabelled(config)

    @classmethod
    def warnings(cls, run: RunConfig) -> Iterator[UserError]:
        if run.student.init == "teacher" and not run.train.dropout:
            yield UserError(
                "train.dropout", "all students start alike, and without dropout they stay one student, its own peer",
                "set train.dropout above 0, or start from the base or at random",
            )  # fmt: skip

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        terms = one_term_less(config, hard="hard_weight", soft="soft_weight", peer="peer_weight")
        return terms | (without_weight(config, answer="answer_weight") if config.teacher == "mutual" else {})

    @classmethod
    def mixture(cls, config: MethodConfig) -> Mixture | None:
        assert isinstance(config, cls.Config)
        return Mixture("mean", temperature=config.temperature) if config.soft_weight else None

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        students = {role: build(draw=number) for number, role in enumerate(self.peers)}
        return students | ({TEACHER: build(of=next(iter(self.setup.teachers)))} if self.online else {})

    def stages(self) -> list[Stage]:
        roles, logits = (*self.peers, TEACHER) if self.online else self.peers, want("logits")
        needs = Needs(logits, {} if self.online else logits)
        return [Stage("distil", needs, self.terms, lr=dict.fromkeys(roles, 1.0), students=roles)]

    # --- terms ------------------------------------------------------------------------------------------------------

    def terms(self, step: Step) -> dict[str, Term]:
        config = self.config
        logits = {role: step.students[role].logits for role in self.peers}
        if torch.is_grad_enabled() and not step.regression:
            self._new.append(_agreement(list(logits.values())))
        hard = [hard_labels(ours, step.batch.labels, step.regression) for ours in logits.values()]
        soft = [self._soft(step, ours) for ours in logits.values()]
        peer = [self._peers(step, [logits[other] for other in self.peers if other != role], logits[role])
                for role in self.peers]  # fmt: skip
        terms = {
            "hard": Term(torch.stack(hard).sum(), config.hard_weight),
            "soft": Term(torch.stack(soft).sum(), config.soft_weight),
            "peer": Term(torch.stack(peer).sum(), config.peer_weight),
        }
        return terms | (self._teachers_own(step, list(logits.values())) if self.online else {})

    def _teachers_own(self, step: Step, students: list[Tensor]) -> dict[str, Term]:
        """What a teacher learns from that is not finished."""
        logits = step.students[TEACHER].logits
        terms = {"teacher": Term(hard_labels(logits, step.batch.labels, step.regression))}
        if self.config.teacher == "mutual":
            terms["answer"] = Term(self._peers(step, students, logits), self.config.answer_weight)
        return terms

    def _soft(self, step: Step, ours: Tensor) -> Tensor:
        """From the teacher, or the mean of several, to one student."""
        temperature = self.config.temperature
        if self.online:
            return teacher_signal(ours, step.students[TEACHER].logits.detach(), temperature, step.regression)
        if len(step.teachers) == 1:
            return teacher_signal(rows_for_teacher(step, ours), step.teacher.logits, temperature, step.regression)
        answers = [outputs.logits for outputs in step.teachers.values()]
        return ensemble_signal(ours, answers, temperature, [1 / len(answers)] * len(answers), step.regression)

    def _peers(self, step: Step, guides: list[Tensor], ours: Tensor) -> Tensor:
        """The mean over those who teach, whose answers are constants."""
        signals = [teacher_signal(ours, guide.detach(), self.config.temperature, step.regression) for guide in guides]
        return torch.stack(signals).mean()

    def learners(self) -> Mapping[str, tuple[str, ...]]:
        return {"students": self.peers} | ({"teacher": (TEACHER,)} if self.online else {})

    # --- read-outs --------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        if self._new:
            self.agreement.update(torch.stack(self._new).mean())
            self._new = []

    def notes(self) -> dict[str, float]:
        """On how many rows two students name one class, mean over pairs, smoothed over steps; none for scores."""
        return {"agreement/students": float(self.agreement.mean)} if int(self.agreement.count) else {}


def _agreement(logits: list[Tensor]) -> Tensor:
    """Share of rows on which two of these name one class, mean over pairs: a scalar."""
    named = [each.detach().argmax(-1) for each in logits]
    return torch.stack([(one == other).float().mean() for one, other in combinations(named, 2)]).mean()
