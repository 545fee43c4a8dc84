"""Gradient knowledge distillation."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.layer_map import LayerMap
from kdcore.losses import gradient
from kdcore.losses.hidden import patience
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    hard_and_soft,
    rows_for_teacher,
    same_width,
    temperature_field,
    without_share,
    without_weight,
)
from kdcore.records import ModelSize, Needs, Outputs, Paper, Part, Setup, Stage, Step, Term, want


class GKD(Method):
    """GKD: the student's answer changes with each token in the direction in which the teacher's does.

    loss     (1 - alpha) hard + alpha soft + gradient_weight direction + patience_weight patience
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    direction |n(dc_s / de_s) - n(dc_t / de_t)|^2, mean over a row's valid tokens, then rows; e: embedding output; c:
             probability of the model's likeliest class (for scores: the score); n scales a token's gradient to length 1
             variant=gkd-cls: the same at [CLS] is added for layers j = 1..k-1 of the student and J(j) of the teacher
    patience variant=gkd-cls: (n(h_j) - n(h_J(j)))^2, mean over rows, these layers and width; h: state of [CLS]
    layers   J(j) = j N / k for a student of k layers and a teacher of N
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); e: [batch, tokens, width]; h: [batch, width], equal
             widths; y: [batch]
    departs
      - sources: The authors' code was read whole; of the paper only the abstract and the start of the introduction. Its
        tables and the definition of its saliency loyalty are unverified.
      - gradient_weight, patience_weight: Both are 0 in the code and have to be given; the authors' values are
        unverified. 1 is ours, and for patience the default of Patient KD. Their beta is gradient_weight in GKD; in
        GKD-CLS their beta is patience_weight and their gamma is gradient_weight.
      - alpha: Their soft term is divided by the number of classes C as well (`reduction="mean"`): alpha is alpha /
        (alpha + C (1 - alpha)) here and the other weights grow with that of the hard term. Their alpha 0.5 is 0.33 for
        two classes, and a weight of 1 is 1.33.
      - direction: Gradients are taken of ln(p / (1 - p)), whose gradient in a row is that of p up to a positive factor
        and does not vanish where the model is sure. Their mean is over all tokens of a batch whose teacher's gradient
        is not 0; ours is over a row's tokens first, which weighs long rows less.
      - likeliest class: Where teacher and student choose different classes their gradients are of different classes;
        nothing is done about it, as in the code.
      - freeze_embeddings: The code's students have the teacher's embeddings, which are frozen. Here the initial weights
        are a choice of the run; embeddings of another space give directions that say nothing.
      - dropout: In the code the student has none, but in a variant of GKD-CLS. Here it is a choice of the run (0.1 by
        default). Gradients are taken in a pass of their own, in float32, which has none unless this is on.
      - initial weights: Their student has the teacher's first layers and a new pooler and classifier; here that is a
        choice of the run.
      - layers: Their students have half of the teacher's layers. Where j N / k is not whole, J(j) is the nearest layer.
      - scores: Scores (STS-B) are ours: in the code the probability of a single output is 1 and has no gradient.
    """

    key = "gkd"
    title = "GKD"
    family = "gradient"
    formula = r"""
    \mathcal{L} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} +
      \lambda_{\text{grad}}\,\mathcal{L}_{\text{direction}} + \lambda_{\text{pat}}\,\mathcal{L}_{\text{patience}} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr) \\
    \mathcal{L}_{\text{direction}} &= \frac{1}{n} \sum_{i=1}^{n} \left\| \frac{g^{\mathrm S}_{i}}{\|g^{\mathrm
      S}_{i}\|_2} - \frac{g^{\mathrm T}_{i}}{\|g^{\mathrm T}_{i}\|_2} \right\|_2^2, \qquad g_{i} = \frac{\partial
      \max_{v} \operatorname{softmax}(z)_{v}}{\partial e_{i}} \\
    \text{GKD-CLS:} \quad \mathcal{L}_{\text{direction}} &\mathrel{+}= \sum_{j=1}^{k-1} \left\| \frac{g^{\mathrm
      S}_{j}}{\|g^{\mathrm S}_{j}\|_2} - \frac{g^{\mathrm T}_{J(j)}}{\|g^{\mathrm T}_{J(j)}\|_2} \right\|_2^2, \qquad
      g_{j} = \frac{\partial \max_{v} \operatorname{softmax}(z)_{v}}{\partial h_{j}} \\
    \mathcal{L}_{\text{patience}} &= \frac{1}{(k-1)\,d} \sum_{j=1}^{k-1} \left\| \frac{h^{\mathrm
      S}_{j}}{\|h^{\mathrm S}_{j}\|_2} - \frac{h^{\mathrm T}_{J(j)}}{\|h^{\mathrm T}_{J(j)}\|_2} \right\|_2^2
    """
    papers = (
        Paper(
            key="wang2022gkd",
            title="Gradient Knowledge Distillation for Pre-trained Language Models",
            authors="Lean Wang, Lei Li, Xu Sun",
            venue="ENLSP at NeurIPS",
            year=2022,
            arxiv="2211.01071",
        ),
    )
    needs = Needs(student=want("logits", "cls"), teacher=want("logits", "cls"), rerun=("student", "teacher"))
    unlabelled = ("alpha", "gradient_weight")

    class Config(MethodConfig):
        variant: Literal["gkd", "gkd-cls"] = Field(
            "gkd", description="gradients at the embeddings alone, or those and the states of [CLS] at inner layers too"
        )
        alpha: float = alpha_field(0.33)
        temperature: float = temperature_field(5.0)
        gradient_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the gradients' directions")
        patience_weight: float = Field(500.0, ge=0, le=1e5, description="variant=gkd-cls: weight of the [CLS] states")
        freeze_embeddings: bool = Field(
            True, description="keep the embeddings as they are at the start: for a student that has the teacher's"
        )
        dropout: bool = Field(
            False, description="the run's dropout also where gradients are taken, which makes them noisy"
        )

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        (teacher,) = setup.teachers.values()
        if config.variant == "gkd-cls" and setup.student.layers < 2:
            raise UserError(
                "student.layers", "gkd-cls compares inner layers, and a student of 1 layer has none",
                "give the student at least 2 layers, or set variant to gkd",
            )  # fmt: skip
        self.map = layer_map.single(self.layer_map(config, setup.student, teacher))
        """Student layer -> teacher layer whose gradients are compared; layer 0: at all tokens, others: at [CLS]."""
        if self.map:
            same_width(setup, "GKD compares gradients and states directly")

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """The embedding outputs and, in gkd-cls, all layers but the last; none without a weight of either term."""
        assert isinstance(config, cls.Config)
        embeddings = {0: 0} if config.gradient_weight else {}
        inner = config.variant == "gkd-cls" and (config.gradient_weight or config.patience_weight)
        layers = layer_map.spread(student.layers, teacher.layers) if inner else {}
        return layer_map.alone(embeddings | {j: n for j, n in layers.items() if j < student.layers})

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        patient = without_weight(config, patience="patience_weight") if config.variant == "gkd-cls" else {}
        return without_share(config) | without_weight(config, direction="gradient_weight") | patient

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        assert isinstance(config, cls.Config)
        return super().uses_unlabelled(config) or bool(config.variant == "gkd-cls" and config.patience_weight)

    @property
    def _inner(self) -> dict[int, int]:
        return {j: n for j, n in self.map.items() if j}

    @property
    def _patient(self) -> bool:
        """Whether states of [CLS] are compared."""
        return bool(self._inner and self.config.patience_weight)

    def stages(self) -> list[Stage]:
        sides = layer_map.sides(self._inner) if self._patient else None
        ours, theirs = ({"cls": layers} for layers in sides) if sides else ({}, {})
        needs = Needs(
            want("logits", **ours), want("logits", **theirs),
            rerun=("student", "teacher") if self.config.gradient_weight else (),
        )  # fmt: skip
        frozen: tuple[Part, ...] = ("embeddings",) if self.config.freeze_embeddings else ()
        return [Stage("distil", needs, self.terms, lr={"student": 1.0}, frozen=frozen)]

    def terms(self, step: Step) -> dict[str, Term]:
        config = self.config
        terms = hard_and_soft(step, config.alpha, config.temperature)
        if config.gradient_weight:
            terms["direction"] = Term(self._direction(step), config.gradient_weight)
        if self._patient:
            pairs = [(rows_for_teacher(step, step.student.cls[j]), step.teacher.cls[n]) for j, n in self._inner.items()]
            ours, theirs = zip(*pairs, strict=True)
            terms["patience"] = Term(patience(ours, theirs, normalise=True), config.patience_weight)
        return terms

    def _direction(self, step: Step) -> Tensor:
        """Sum over the mapped layers."""
        mask = step.teacher.mask
        ours = self._gradients(step.student, list(self.map), step.regression, graph=torch.is_grad_enabled())
        theirs = self._gradients(step.teacher, list(self.map.values()), step.regression, graph=False)
        apart = []
        for layer, student, teacher in zip(self.map, ours, theirs, strict=True):
            tokens = slice(None) if layer == 0 else slice(1)
            student = rows_for_teacher(step, student)
            apart.append(gradient.direction(student[:, tokens], teacher[:, tokens], mask[:, tokens]))
        return torch.stack(apart).sum()

    def _gradients(self, outputs: Outputs, layers: list[int], regression: bool, graph: bool) -> list[Tensor]:
        """Of the answer with respect to the hidden states of these layers, [batch, tokens, width] each."""
        again = outputs.rerun(still=not self.config.dropout)
        with torch.enable_grad():
            signal = again.logits[:, 0] if regression else gradient.log_odds(again.logits).max(-1).values
            return gradient.state_gradients(signal, [again.hidden[layer] for layer in layers], graph)
