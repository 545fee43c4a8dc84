"""Attribution-driven knowledge distillation."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from kdcore.errors import UserError
from kdcore.losses import gradient
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    rows_for_teacher,
    temperature_field,
    without_share,
    without_weight,
)
from kdcore.records import Needs, Outputs, Paper, Setup, Stage, Step, Term, want


class ADKD(Method):
    """AD-KD: the student's answer rests on the same tokens as the teacher's, for every class.

    loss     (1 - alpha) hard + alpha soft + beta attribution
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    attribution (n(a_s) - n(a_t))^2, mean over a row's valid tokens, then rows, sum over classes (one where there are
             two, or scores); n scales a row's a to length 1
    a        length of G * e at each token, the teacher's of the `top` largest of its products alone
    G        mean of the gradients of ln(p / (1 - p)) (for scores: of the score) at e k / m, k = 1..m; p: probability of
             the class; m: path_steps
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); a: [batch, tokens]; G, e: [batch, tokens, width], any
             widths, e: embedding output; y: [batch]
    departs
      - sources: The authors' code and scripts were read whole; of the paper only the abstract and part of the
        introduction. Its equations (the baseline of the path, the difference of the maps), search grids and tables are
        unverified.
      - alpha, beta: Their soft term has no T^2 factor: with w = alpha / T^2 + 1 - alpha, alpha is alpha / (T^2 w) here
        and beta is beta / w. The defaults are their script for SST-2 (alpha 0.8, T 2, beta 1).
      - soft: Their soft cross-entropy differs from this KL by the teacher's entropy only: the same gradient. For scores
        theirs is ((s - t) / T)^2.
      - anneal: T falls to 1 evenly over the steps; in their code it falls once an epoch. The soft term keeps the factor
        T^2 of the start, so that the weights stay theirs.
      - gradients: Theirs are of -ln p, and for scores of (s - y)^2. In a row ours are the same up to a factor, which n
        takes out, and do not vanish where the model is sure or the score right.
      - path_steps: 1 is theirs. With more, their factors differ from point to point, by 1 - p or by the error; here
        all points count alike. The path starts from zeros in place of e.
      - attribution: Their mean is over all tokens of a batch; ours is over a row's tokens first, which weighs long rows
        less.
      - classes: With two, both classes and the gold label have the same map, so that one is taken, as in their code.
      - norms: Lengths and differences are L2, their default; L1 is left out.
      - top: 0 takes all dimensions. Theirs are 640 to 768 of 768.
      - dropout: The student's is on, as in theirs. Gradients are taken in a pass of their own, in float32, so that its
        dropout is not that of the logits.
      - initial weights: Their student is the general BERT of 6 layers or the teacher's first 6; here that is a choice
        of the run.
    """

    key = "ad-kd"
    title = "AD-KD"
    family = "gradient"
    formula = r"""
    \mathcal{L} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} +
      \beta\,\mathcal{L}_{\text{attribution}} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr) \\
    \mathcal{L}_{\text{attribution}} &= \sum_{v} \frac{1}{n} \left\| \frac{a^{\mathrm S}_{v}}{\|a^{\mathrm
      S}_{v}\|_2} - \frac{a^{\mathrm T}_{v}}{\|a^{\mathrm T}_{v}\|_2} \right\|_2^2, \qquad a_{v,i} = \bigl\| G_{v,i}
      \odot e_{i} \bigr\|_2 \\
    G_{v} &= \frac{1}{m} \sum_{k=1}^{m} \left. \frac{\partial}{\partial e} \log \frac{p_{v}}{1-p_{v}}
      \right|_{\frac{k}{m} e}, \qquad p = \operatorname{softmax}(z)
    """
    papers = (
        Paper(
            key="wu2023adkd",
            title="AD-KD: Attribution-Driven Knowledge Distillation for Language Model Compression",
            authors="Siyue Wu, Hongzhan Chen, Xiaojun Quan, Qifan Wang, Rui Wang",
            venue="ACL",
            year=2023,
            arxiv="2305.10010",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits"), rerun=("student", "teacher"))
    unlabelled = ("alpha", "beta")

    class Config(MethodConfig):
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(2.0)
        anneal: bool = Field(False, description="let T fall to 1 over the training")
        beta: float = Field(2.5, ge=0, le=1e4, description="weight of the attribution")
        top: int = Field(0, ge=0, le=10000, description="dimensions of the teacher that count at a token; 0: all")
        path_steps: int = Field(1, ge=1, le=50, description="points of the integrated gradient; each costs a pass")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        for name, size in setup.teachers.items():
            if config.beta and config.top > size.width:
                raise UserError(
                    "options.top",
                    f"teacher {name} has {size.width} dimensions, not {config.top}",
                    f"choose at most {size.width}, or 0 for all",
                )

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_share(config) | without_weight(config, attribution="beta")

    def stages(self) -> list[Stage]:
        needs = Needs(want("logits"), want("logits"))
        if self.config.beta:
            classes = self.setup.labels if self.setup.kind == "classification" else 1
            views = classes if classes > 2 else 1
            needs = Needs(
                want("logits"), want("logits"), rerun=("student", "teacher"),
                passes=self.config.path_steps, gradients=views,
            )  # fmt: skip
        return [Stage("distil", needs, self.terms, lr={"student": 1.0})]

    def terms(self, step: Step) -> dict[str, Term]:
        config, logits = self.config, step.student.logits
        terms = {
            "hard": Term(hard_labels(logits, step.batch.labels, step.regression), 1 - config.alpha),
            "soft": Term(self._soft(step), config.alpha),
        }
        if config.beta:
            terms["attribution"] = Term(self._attribution(step), config.beta)
        return terms

    def _soft(self, step: Step) -> Tensor:
        first, temperature = self.config.temperature, self.config.temperature
        if self.config.anneal:
            temperature += (1 - first) * (step.step - 1) / max(1, step.steps - 1)
        ours = rows_for_teacher(step, step.student.logits)
        soft = teacher_signal(ours, step.teacher.logits, temperature, step.regression)
        return soft if step.regression else soft * (first / temperature) ** 2

    def _attribution(self, step: Step) -> Tensor:
        """Sum over views."""
        ours = self._saliency(step.student, step.regression, 0, graph=torch.is_grad_enabled())
        theirs = self._saliency(step.teacher, step.regression, self.config.top, graph=False)
        apart = [
            gradient.attribution(rows_for_teacher(step, student), teacher, step.teacher.mask)
            for student, teacher in zip(ours, theirs, strict=True)
        ]
        return torch.stack(apart).sum()

    def _saliency(self, outputs: Outputs, regression: bool, top: int, graph: bool) -> list[Tensor]:
        """Of each view, [batch, tokens]."""
        again, steps = outputs.rerun(), self.config.path_steps
        state = again.hidden[0]
        sums = _view_gradients(again, regression, graph)
        for k in range(1, steps):
            with torch.enable_grad():
                there = outputs.rerun(first=state * (k / steps))
            found = _view_gradients(there, regression, graph)
            sums = [total + more for total, more in zip(sums, found, strict=True)]
        state = state if graph else state.detach()
        return [gradient.saliency(total / steps, state, top) for total in sums]


def _view_gradients(outputs: Outputs, regression: bool, graph: bool) -> list[Tensor]:
    """Gradients at the embedding output, one [batch, tokens, width] a view: each class, the score, or one of two."""
    with torch.enable_grad():
        if regression:
            signals = outputs.logits
        else:
            odds = gradient.log_odds(outputs.logits)
            signals = odds if odds.shape[1] > 2 else odds[:, :1]
        return [gradient.state_gradients(one, [outputs.hidden[0]], graph)[0] for one in signals.unbind(-1)]
