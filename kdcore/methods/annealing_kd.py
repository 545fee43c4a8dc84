"""Annealing knowledge distillation."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from kdcore.losses.precision import full
from kdcore.losses.soft_targets import hard_labels, logit_rows
from kdcore.methods.base import Method, MethodConfig, rows_for_teacher
from kdcore.records import Needs, Paper, Setup, Stage, Step, Term, want

ANNEAL, PREDICT = "anneal", "predict"


class AnnealingKD(Method):
    """Annealing KD: the student first learns the teacher's logits, scaled down and growing, then the labels alone.

    loss     anneal stage: logits
             predict stage: hard
    logits   (s - p t)^2, mean over classes and rows; p = i / n in the i-th of n equal parts of the stage's steps, so
             that it grows from 1 / n to 1; n: temperatures
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - sources: Of the paper the abstract and introduction were read, of the authors' code the vision script and their
        README; the script for GLUE was read in a fork. The tables of the paper are unverified.
      - temperatures: The authors write p = 1 - (T - 1) / n with T from n down to 1, which is the same. T never divides
        a logit inside a softmax. Theirs counts epochs; where n does not divide their number, their loop goes on
        beyond p = 1, and ours does not.
      - anneal_share: The README's example for GLUE has 14 epochs for the first stage and 4 for the second, a share of
        0.78, with n = 7. Settings by task are unverified.
      - few steps: A first stage of fewer steps than n has one value of p a step, and still ends at 1.
      - best weights: As in the paper the second stage starts from the best weights of the first, with a new optimiser
        and a new schedule. Ours are the best on `select`; theirs the best on the dev set. In their script the best of
        the first stage may remain the result; ours is the best of the second.
      - learning rate: One rate serves both stages, and warms up in both.
      - scores: The first stage is the same for scores (STS-B), of which there is one in place of C logits.
      - several teachers: One teacher is taken.
    """

    key = "annealing-kd"
    title = "Annealing KD"
    family = "soft_targets"
    formula = r"""
    \mathcal{L}_{\text{anneal}} &= \frac{1}{C} \left\| z^{\mathrm S} - p_{i}\, z^{\mathrm T} \right\|_2^2,
      \qquad p_{i} = \frac{i}{n}, \quad i = 1, \dots, n \\
    \mathcal{L}_{\text{predict}} &= \mathcal{L}_{\text{hard}} = -\log \operatorname{softmax}(z^{\mathrm S})_{y}
    """
    papers = (
        Paper(
            key="jafari2021annealing",
            title="Annealing Knowledge Distillation",
            authors="Aref Jafari, Mehdi Rezagholizadeh, Pranav Sharma, Ali Ghodsi",
            venue="EACL",
            year=2021,
            arxiv="2104.07163",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits"))
    unlabelled = ("anneal_share",)

    class Config(MethodConfig):
        anneal_share: float = Field(
            0.78, ge=0.05, le=0.95, description="share of the steps for the teacher's logits; the labels get the rest"
        )
        temperatures: int = Field(7, ge=1, le=1000, description="n: in how many parts the teacher's logits grow")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self._scale = 0.0

    def stages(self) -> list[Stage]:
        share, logits = self.config.anneal_share, want("logits")
        return [
            Stage(ANNEAL, Needs(logits, logits), self.anneal, share, lr={"student": 1.0}, ends="best"),
            Stage(PREDICT, Needs(logits), self.terms, 1 - share, lr={"student": 1.0}, labelled=True),
        ]

    def anneal(self, step: Step) -> dict[str, Term]:
        """The first stage's term, which reads no label."""
        target = self.scale(step) * full(step.teacher.logits)
        return {"logits": Term(logit_rows(rows_for_teacher(step, step.student.logits), target).mean())}

    def terms(self, step: Step) -> dict[str, Term]:
        """The second stage's term, which asks no teacher."""
        return {"hard": Term(hard_labels(step.student.logits, step.batch.labels, step.regression))}

    def scale(self, step: Step) -> float:
        """p at this step of the first stage."""
        parts = min(self.config.temperatures, step.steps)
        return (1 + (step.step - 1) * parts // step.steps) / parts

    def after_step(self, step: Step) -> None:
        if step.stage == ANNEAL:
            self._scale = self.scale(step)

    def notes(self) -> dict[str, float]:
        """How much of the teacher's logits is the target."""
        return {"scale/teacher's logits": self._scale}

    def history(self) -> dict[str, object]:
        return {"scale": self._scale}

    def restore_history(self, history: Mapping[str, object]) -> None:
        scale = history["scale"]
        assert isinstance(scale, float)
        self._scale = scale
