"""Backward KD: the student learns the teacher's answers at points where the two differ most."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from kdcore.errors import UserError
from kdcore.losses import gradient
from kdcore.losses.soft_targets import logit_rows, teacher_signal
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    hard_and_soft,
    rows_for_teacher,
    temperature_field,
    without_share,
    without_weight,
)
from kdcore.records import Needs, Paper, Setup, Stage, Step, Term, want


class BackwardKD(Method):
    """Backward KD: rows are moved to where student and teacher differ most, and there the student learns the answer.

    loss     (1 - alpha) hard + alpha soft + auxiliary_weight auxiliary
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    auxiliary the soft term of s(x'), t(x')
    x'       a row's word embeddings x after ascent_steps steps x <- x + step_length |x| n(dD / dx); n scales the row's
             gradient to length 1; padding is left out; D = (s(x) - t(x))^2, mean over classes, in a pass without
             dropout. The teacher's word embeddings move by the same vectors
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); x: [batch, tokens, width], equal widths; y: [batch]
    departs
      - sources: Of the paper only the abstract was read, and there is no code: new inputs are made by moving training
        rows along the gradient of the difference of the two networks, they join the training data, and both take turns.
        All else here is ours or unverified: D, the soft term, all values, and which networks and tasks it was tried on.
      - turns: The paper alternates between making points and training on all of them. Here a step makes points of its
        own batch and learns from them once, so that no store of embeddings is kept and the points suit the student as
        it is now.
      - stages: A start on real rows before the first points, and an end on real rows alone, are left out; whether the
        paper has them is unverified.
      - auxiliary: A row that was moved has no gold label: it is only in this term. Its words are inputs and learn
        nothing from it.
      - text: Tokens cannot be moved, so that word embeddings are. How the paper does it is unverified; what we remember
        of it carries a movement to the teacher's embeddings by W_s^+ W_t, of the two tables of words. Here the
        teacher's words move by the same vectors, which is that map where both tables are equal, as with a student that
        starts from the teacher.
      - step_length: A gradient's size says nothing of how far a row may go, so that a step has a length of its own: it
        follows the gradient, and a row's length grows by 1 + step_length at the most.
      - special tokens: [CLS] and [SEP] move like other tokens; padding stays.
      - dropout: Points are searched without; the student's answers at them have the run's.
      - precision: Points are made and answered in float32.
    """

    key = "backward-kd"
    title = "Backward KD"
    family = "gradient"
    formula = r"""
    \mathcal{L} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} +
      \lambda_{\text{aux}}\,\mathcal{L}_{\text{auxiliary}} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S}(x))_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}(x)/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}(x)/T)\bigr) \\
    \mathcal{L}_{\text{auxiliary}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}(x')/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}(x')/T)\bigr) \\
    x' &= x + \eta\,\|x\|_2\, \frac{g}{\|g\|_2}, \qquad g = \frac{\partial}{\partial x} \left\| z^{\mathrm S}(x) -
      z^{\mathrm T}(x) \right\|_2^2
    """
    papers = (
        Paper(
            key="jafari2023backward",
            title="Improved knowledge distillation by utilizing backward pass knowledge in neural networks",
            authors="Aref Jafari, Mehdi Rezagholizadeh, Ali Ghodsi",
            venue="arXiv preprint",
            year=2023,
            arxiv="2301.12006",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits"), rerun=("student", "teacher"))
    unlabelled = ("alpha", "auxiliary_weight")

    class Config(MethodConfig):
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(2.0)
        auxiliary_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the teacher's answer at moved rows")
        ascent_steps: int = Field(1, ge=1, le=10, description="steps of the search for such rows; each costs a pass")
        step_length: float = Field(0.1, ge=0, le=10, description="length of a row's step, in lengths of its embeddings")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        for name, size in setup.teachers.items():
            width = size.embedding_width or size.width
            if config.auxiliary_weight and width != setup.student.width:
                raise UserError(
                    "student.width",
                    f"Backward KD moves words alike in both models, but the student's word embeddings have "
                    f"{setup.student.width} dimensions and those of teacher {name} {width}",
                    f"give the student the width {width}, or set auxiliary_weight to 0",
                )

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_share(config) | without_weight(config, auxiliary="auxiliary_weight")

    def stages(self) -> list[Stage]:
        needs = Needs(want("logits"), want("logits"))
        if self.config.auxiliary_weight:
            needs = Needs(
                want("logits"), want("logits"), rerun=("student", "teacher"), passes=self.config.ascent_steps + 1,
                order=1,
            )  # fmt: skip
        return [Stage("distil", needs, self.terms, lr={"student": 1.0})]

    def terms(self, step: Step) -> dict[str, Term]:
        config = self.config
        terms = hard_and_soft(step, config.alpha, config.temperature)
        if config.auxiliary_weight:
            ours, theirs = self._points(step)
            student = rows_for_teacher(step, step.student.rerun(words=ours).logits)
            teacher = step.teacher.rerun(words=theirs).logits.detach()
            apart = teacher_signal(student, teacher, config.temperature, step.regression)
            terms["auxiliary"] = Term(apart, config.auxiliary_weight)
        return terms

    def _points(self, step: Step) -> tuple[Tensor, Tensor]:
        """Word embeddings where the two differ more: the student's [batch, tokens, width], and the teacher's of the
        rows that it answers. No graph."""
        ids = step.batch.encoding.input_ids
        start = moved = step.student.look_up(ids).detach()
        theirs = step.teacher.look_up(rows_for_teacher(step, ids)).detach()
        for _ in range(self.config.ascent_steps):
            slope = _slope(step, moved, theirs + rows_for_teacher(step, moved - start))
            moved = gradient.ascent(moved, slope, self.config.step_length, step.student.mask)
        return moved, theirs + rows_for_teacher(step, moved - start)


def _slope(step: Step, ours: Tensor, theirs: Tensor) -> Tensor:
    """Gradient of D with respect to a movement of both models' words, [batch, tokens, width]."""
    with torch.enable_grad():
        move = torch.zeros_like(ours, requires_grad=True)
        student = rows_for_teacher(step, step.student.rerun(words=ours + move, still=True).logits)
        teacher = step.teacher.rerun(words=theirs + rows_for_teacher(step, move), still=True).logits
        return gradient.state_gradients(logit_rows(student, teacher), [move], graph=False)[0]
