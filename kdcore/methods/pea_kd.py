"""Parameter-efficient and accurate knowledge distillation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from kdcore import layer_map
from kdcore.fields import parse_list
from kdcore.layer_map import LayerMap
from kdcore.losses.hidden import patience
from kdcore.losses.precision import full
from kdcore.losses.soft_targets import entropy, hard_labels, has_label
from kdcore.methods.base import (
    Ablations,
    Build,
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
from kdcore.models.shared_layers import run_again
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, TeacherAnswers, Term, want

LABELS = ("confidently right", "unsurely right", "confidently wrong", "unsurely wrong")
"""What PTP predicts of the teacher, in the order of its four classes."""

THRESHOLDS: dict[str, tuple[float, float]] = {
    "rte": (0.80, 0.60),
    "mrpc": (0.95, 0.75),
    "sst2": (0.98, 0.80),
    "qnli": (0.98, 0.70),
    "cola": (0.95, 0.70),
}
"""The authors' t1 and t2 (constants of their code)."""


class PeaKD(Method):
    """Pea-KD: a student that runs its layers twice first learns how sure and how right the teacher is, then distils.

    loss     ptp stage: ptp;  distil stage: (1 - alpha) hard + alpha soft + beta patience
    ptp      cross-entropy of a 4-way head on the pooled output with the label of the teacher's answer, mean over rows:
             right with max_c p_c > t1, right below, wrong with max_c p_c > t2, wrong below;  p = softmax(t)
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    patience (n(c_j) - n(c_J(j)))^2, mean over rows, layers and width; n scales to length 1. Student of depth e, teacher
             of N, g = gcd(e, N): j = i e / g, J(j) = i N / g for i = 1..g-1
    student  SPS: layers 1..k, then again with query and key weights (and biases) exchanged: depth e = 2k. From k = 4 on
             only the upper half runs again (6 layers give 9). Tied: no parameter is added
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); c: [batch, width], equal widths; head: width -> 4
    departs
      - sources: Structure, labels, thresholds and layers follow the authors' code; of the paper only its abstract and
        the start of its method section could be read, so its own grids are unverified.
      - alpha, beta, temperature: Two of their repositories divide the soft term by the number of classes C, the third
        does not: alpha 0.7, T 10 and beta 100 are theirs, without that division (with it, alpha 0.7 would be 0.54 here
        for two classes).
      - layers: k = 4 and 5 are ours; so is pairing by common depths, which gives their table for 1, 2, 3 and 6 layers,
        and the nearest layers where e and N have no common divisor.
      - thresholds: They fix t1 and t2 per task (RTE, MRPC, SST-2, QNLI, CoLA); one of their descriptions says medians
        over right and over wrong answers, which other tasks get here. A teacher that is never wrong has no median, and
        t2 is then t1.
      - ptp: They choose the PTP weights by the loss on the dev set, we by the loss on `select`, rows kept aside from
        training. The PTP head reads the pooled output without dropout. Scores have no right and wrong: there PTP is
        left out, which is ours.
      - ptp_share: PTP takes 4 epochs and the final stage 6; both share the run's steps here, 0.4 and 0.6.
      - sharing: The gain is in memory, not in time: the student is as fast as one of depth e, and its export is a plain
        BERT of e layers with the tied weights written twice.
    """

    key = "pea-kd"
    title = "Pea-KD"
    family = "hidden"
    formula = r"""
    \mathcal{L}_{\text{ptp}} &= -\log \operatorname{softmax}(W p^{\mathrm S} + b)_{q}, \qquad q = q(z^{\mathrm
      T}, y) \in \{1, 2, 3, 4\} \\
    \mathcal{L}_{\text{distil}} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} +
      \beta\,\mathcal{L}_{\text{patience}} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr) \\
    \mathcal{L}_{\text{patience}} &= \frac{1}{(g-1)\,d} \sum_{i=1}^{g-1} \left\| \frac{c^{\mathrm
      S}_{j(i)}}{\|c^{\mathrm S}_{j(i)}\|_2} - \frac{c^{\mathrm T}_{J(i)}}{\|c^{\mathrm T}_{J(i)}\|_2}
      \right\|_2^2, \qquad j(i) = \frac{i e}{g}, \quad J(i) = \frac{i N}{g}
    """
    papers = (
        Paper(
            key="cho2022peakd",
            title="Pea-KD: Parameter-efficient and Accurate Knowledge Distillation on BERT",
            authors="Ikhyun Cho, U Kang",
            venue="PLOS ONE",
            year=2022,
            arxiv="2009.14822",
        ),
    )
    needs = Needs(student=want("logits", "cls", "pooled"), teacher=want("logits", "cls"))
    unlabelled = ("alpha", "beta")

    class Config(MethodConfig):
        sharing: Literal["shuffle", "plain", "none"] = Field(
            "shuffle", description="second pass: with query and key exchanged (SPS), as it is, or no second pass"
        )
        second_pass: Literal["auto", "all", "upper-half"] = Field(
            "auto", description="layers that run again; auto: all of up to 3, the upper half of more"
        )
        ptp: bool = Field(True, description="first train on the four labels of the teacher's answers")
        ptp_share: float = Field(0.4, gt=0, lt=1, description="share of the run's steps that PTP takes")
        thresholds: Literal["task", "median"] | tuple[float, float] = Field(
            "task", description="t1, t2: the authors' for the task (else medians), medians, or a pair such as 0.9,0.7"
        )
        alpha: float = alpha_field(0.7)
        temperature: float = temperature_field(10.0)
        beta: float = Field(100.0, ge=0, le=1e5, description="weight of the [CLS] states; 0: plain KD at the end")

        _as_list = field_validator("thresholds", mode="before")(parse_list)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self._teacher = next(iter(setup.teachers))
        self.map = layer_map.single(self.layer_map(config, setup.student, setup.teachers[self._teacher]))
        if self.map:
            same_width(setup, "Pea-KD compares [CLS] states directly")
        self._thresholds = (math.nan, math.nan)
        self._shares = [math.nan] * len(LABELS)
        if self._pretrains():
            self.head = _head(setup.student.width, setup.seed)

    # --- the student ------------------------------------------------------------------------------------------------

    @classmethod
    def deployed(cls, config: MethodConfig, student: ModelSize, teachers: Mapping[str, ModelSize]) -> ModelSize:
        assert isinstance(config, cls.Config)
        return replace(student, layers=student.layers + len(repeated_layers(config, student.layers)))

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        again = repeated_layers(self.config, self.setup.student.layers)
        return {"student": run_again(build(), again, swap=self.config.sharing == "shuffle")}

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """Layers of the student as it runs -> teacher layers, the student's last left to the soft targets."""
        assert isinstance(config, cls.Config)
        if not config.beta:
            return {}
        depth = cls.deployed(config, student, {}).layers
        nearest = {j: n for j, n in layer_map.spread(depth, teacher.layers).items() if j < depth}
        return layer_map.alone(layer_map.common(depth, teacher.layers) or nearest)

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        without = without_share(config) | without_weight(config, patience="beta")
        if config.ptp and kind == "classification":
            without["stage ptp"] = {"ptp": False}
        if config.sharing == "shuffle":
            without["exchange of query and key"] = {"sharing": "plain"}
        return without

    # --- the two stages ---------------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        ours, theirs = layer_map.sides(self.map)
        needs = Needs(want("logits", cls=ours), want("logits", cls=theirs)) if self.map else Needs(
            want("logits"), want("logits")
        )  # fmt: skip
        if not self._pretrains():
            return [Stage("distil", needs, self.terms)]
        share = self.config.ptp_share
        ptp = Stage(
            "ptp", Needs(want("pooled"), want("logits")), self.ptp_terms, share=share, judge="loss", ends="best",
            labelled=True,
        )  # fmt: skip
        final = Stage("distil", needs, self.terms, share=1 - share, lr={"student": 1.0})
        return [ptp, final]

    def before_stage(self, stage: str, teachers: TeacherAnswers) -> None:
        """Fixes t1 and t2 and counts the four labels over the training rows that have a label."""
        if stage != "ptp":
            return
        logits, labels = teachers.logits(self._teacher), teachers.labels()
        known = has_label(labels)
        logits, labels = logits[known], labels[known]
        self._thresholds = self._choose_thresholds(logits, labels)
        counts = torch.bincount(ptp_labels(logits, labels, *self._thresholds), minlength=len(LABELS))
        self._shares = (counts / counts.sum()).tolist()

    def ptp_terms(self, step: Step) -> dict[str, Term]:
        labels = ptp_labels(step.teacher.logits, rows_for_teacher(step, step.batch.labels), *self._thresholds)
        guess = self.head(full(rows_for_teacher(step, step.student.pooled)))
        return {"ptp": Term(hard_labels(guess, labels, regression=False))}

    def terms(self, step: Step) -> dict[str, Term]:
        config, student, teacher = self.config, step.student, step.teacher
        terms = hard_and_soft(step, config.alpha, config.temperature)
        if self.map:
            ours = [rows_for_teacher(step, student.cls[j]) for j in self.map]
            theirs = [teacher.cls[n] for n in self.map.values()]
            terms["patience"] = Term(patience(ours, theirs, normalise=True), config.beta)
        return terms

    def notes(self) -> dict[str, float]:
        """Share of each PTP label, and the PTP loss of someone who knows only these shares: less means it learned."""
        if math.isnan(self._shares[0]):
            return {}
        shares = {f"ptp/{name}": share for name, share in zip(LABELS, self._shares, strict=True)}
        blind = float(entropy(torch.tensor([self._shares], dtype=torch.float64))[0])
        return {**shares, "ptp/loss of a blind guess": blind}

    def history(self) -> dict[str, object]:
        return {"thresholds": list(self._thresholds), "shares": self._shares} if self.notes() else {}

    def restore_history(self, history: Mapping[str, Any]) -> None:
        if history:
            self._thresholds = (float(history["thresholds"][0]), float(history["thresholds"][1]))
            self._shares = [float(share) for share in history["shares"]]

    def _pretrains(self) -> bool:
        return self.config.ptp and self.setup.kind == "classification"

    def _choose_thresholds(self, logits: Tensor, labels: Tensor) -> tuple[float, float]:
        chosen = self.config.thresholds
        if isinstance(chosen, tuple):
            return chosen
        if chosen == "task" and self.setup.task in THRESHOLDS:
            return THRESHOLDS[self.setup.task]
        return median_thresholds(logits, labels)


def repeated_layers(config: PeaKD.Config, layers: int) -> list[int]:
    """The layers (from 1) of a student of this depth that run a second time, in order."""
    if config.sharing == "none":
        return []
    if config.second_pass == "all" or (config.second_pass == "auto" and layers <= 3):
        return list(range(1, layers + 1))
    return list(range(layers // 2 + 1, layers + 1))


def ptp_labels(logits: Tensor, labels: Tensor, t1: float, t2: float) -> Tensor:
    """Which of `LABELS` each teacher answer is, int64 [batch]; a confidence of exactly t1 or t2 is unsure.

    Args:
        logits: the teacher's [batch, classes]. labels: gold, int64 [batch].
    """
    confidence, answer = full(logits).softmax(-1).max(-1)
    right = answer == labels
    return torch.where(right, (confidence <= t1).long(), 2 + (confidence <= t2).long())


def median_thresholds(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Median confidence among the teacher's right answers, and among its wrong ones; each stands in for a missing one.

    Args:
        logits: the teacher's [rows, classes] on the training rows. labels: gold, int64 [rows].
    """
    confidence, answer = full(logits).softmax(-1).max(-1)
    right = answer == labels
    medians = [float(confidence[group].median()) if group.any() else None for group in (right, ~right)]
    t1, t2 = (own if own is not None else other for own, other in (medians, medians[::-1]))
    assert t1 is not None and t2 is not None  # there is at least one row
    return t1, t2


def _head(width: int, seed: int) -> nn.Linear:
    """The 4-way classifier, new from the run's seed alone."""
    head = nn.Linear(width, len(LABELS), device="meta").to_empty(device="cpu")
    with torch.no_grad():
        head.weight.normal_(0.0, 1 / math.sqrt(width), generator=torch.Generator().manual_seed(seed))
        head.bias.zero_()
    return head
