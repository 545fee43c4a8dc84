"""MKD: one student learns several tasks at once, each from a teacher of its own."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcore.fields import tune
from kdcore.losses.precision import full
from kdcore.losses.soft_targets import hard_labels, logit_rows
from kdcore.methods.base import Ablations, Method, MethodConfig, TaskKind, rows_for_teacher
from kdcore.models.projections import new_linear
from kdcore.records import Needs, Paper, Setup, Stage, Step, Term, want


class MKD(Method):
    """MKD: one student learns several tasks from a teacher of each, then goes on with the one that is asked for.

    loss     stage joint: logits;  stage fine-tune: hard
    logits   (s_k - t_k)^2 with the logits of the batch's task k, mean over its classes, then over rows
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    head     for the run's own task the student's classifier; for another task k: s_k = W_k p + b_k, with p the pooler's
             output; W_k and b_k are new, train in the first stage and are dropped after it
    shapes   s_k, t_k: [batch, classes of k] (scores: [batch, 1]); p: [batch, width]; y: [batch]; a batch is of one task
    departs
      - sources: Abstract and first page were read; no code of the authors was found, and no table. That logits are
        matched task by task is second-hand; the squared error of raw logits without gold labels is unverified.
      - logits: Whether the paper adds up the classes or takes their mean is unverified; we take the mean, so their loss
        may be as many times larger as a task has classes.
      - teachers: The paper's teacher is one network, refined on all tasks together. Ours is one model fine-tuned on
        each task by itself, which the paper's first page shows as the other way. A task whose teacher has large logits
        weighs more.
      - power: A batch of one task, drawn in proportion to the tasks' sizes, is the usual way and unverified here; at
        power 1 an epoch sees each row once. The default of 0.75 lets small tasks come more often (ours).
      - joint: How long each stage takes is ours; the paper fine-tunes as an option. Steps of the run, an epoch of which
        counts the rows of all tasks, are divided between the two.
      - head: Dropout before a head is left out for other tasks. Only the run's own task is scored, chosen by and
        exported; the paper keeps every head.
      - student: The paper's are an LSTM and a small Transformer (three layers, unverified); ours is the run's student.
    """

    key = "mkd"
    title = "MKD"
    family = "data"
    formula = r"""
    \mathcal{L}_{\text{joint}} &= \frac{1}{C_k} \left\| z^{\mathrm T_k} - z^{\mathrm S_k} \right\|_2^2, \qquad
      z^{\mathrm S_k} = W_k\, p^{\mathrm S} + b_k \\
    \mathcal{L}_{\text{fine-tune}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y}
    """
    papers = (
        Paper(
            key="liu2019mkd",
            title="MKD: a Multi-Task Knowledge Distillation Approach for Pretrained Language Models",
            authors="Linqing Liu, Huan Wang, Jimmy Lin, Richard Socher, Caiming Xiong",
            venue="arXiv",
            year=2019,
            arxiv="1911.03588",
        ),
    )
    needs = Needs(student=want("logits", "pooled"), teacher=want("logits"))
    other_tasks = (1, 8)
    unlabelled = ("joint",)

    class Config(MethodConfig):
        joint: float = Field(
            0.6, gt=0, le=1, description="share of the steps that learn all tasks; the rest fine-tunes on the run's",
            json_schema_extra=tune(0.2, 1.0),
        )  # fmt: skip
        power: float = Field(
            0.75, ge=0, le=1, description="how much a task's size counts for its share of the steps; 1: in proportion"
        )

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        generator = torch.Generator().manual_seed(setup.seed)
        self.heads = nn.ModuleDict(
            {key: new_linear(setup.student.width, task.outputs, generator) for key, task in setup.also.items()}
        )

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        return {"stage fine-tune": {"joint": 1.0}} if config.joint < 1 else {}

    def stages(self) -> list[Stage]:
        joint = self.config.joint
        ours = want("logits", "pooled") if self.heads else want("logits")
        first = Stage("joint", Needs(ours, want("logits")), self.terms, joint, task_power=self.config.power)
        if joint == 1:
            return [first]
        last = Stage(
            "fine-tune", Needs(want("logits")), self.fine_tune, 1 - joint, {"student": 1.0}, labelled=True, teachers=()
        )  # fmt: skip
        return [first, last]

    def terms(self, step: Step) -> dict[str, Term]:
        """The first stage's term, of the batch's task."""
        ours = rows_for_teacher(step, self._logits(step))
        return {"logits": Term(logit_rows(ours, step.teacher.logits).mean())}

    def fine_tune(self, step: Step) -> dict[str, Term]:
        """The second stage's term."""
        return {"hard": Term(hard_labels(step.student.logits, step.batch.labels, step.regression))}

    def _logits(self, step: Step) -> Tensor:
        """Of the head of the batch's task, [batch, its classes]."""
        if not step.batch.task:
            ours: Tensor = step.student.logits
            return ours
        logits: Tensor = self.heads[step.batch.task](full(step.student.pooled))
        return logits
