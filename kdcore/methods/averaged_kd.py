"""Knowledge distillation from the weighted mean of several teachers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from kdcore.losses.soft_targets import ensemble_signal, hard_labels
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    hard_label_weight_field,
    has_soft_targets,
    without_share,
)
from kdcore.methods.teacher_weights import Mixture, all_scores, by_rank, by_softmax
from kdcore.records import Needs, Paper, Setup, Step, Term, want


class WKD(Method):
    """Averaged KD: all teachers answer every step, and the student learns from the weighted mean of their answers.

    loss     (1 - w) soft + w hard                              w: hard_label_weight, 0 by default
    soft     T^2 KL(p || softmax(s / T)), mean over rows, p = sum_k a_k softmax(t_k / T); for scores:
             (s - sum_k a_k t_k)^2
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    weights  a_k >= 0, sum 1, fixed. equal: 1 / n. By the teachers' own scores: rank: r_k / (n (n + 1) / 2), r = n for
             the best, 1 for the worst, ties share their mean rank; softmax: softmax(score / spread)
    shapes   s, t_k: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - sources: No one paper owns this baseline. The paper named here distils ensembles of fine-tuned BERTs on GLUE; of
        it the abstract and the caption of its second figure were read.
      - tasks, teachers: The paper trains one student on all tasks, from ensembles of the student's own size.
      - hard_label_weight: The paper takes the mean of hard and soft loss: 0.5.
      - weights: Weights by score are ours. That the paper averages probabilities, all teachers alike and at T = 1, is
        unverified.
      - scores: The squared error is ours.
      - SKDBERT: It compares with a WKD, weighted or averaged, of which only accounts by others were read.
      - defaults: They are those of our Stochastic KD, for this comparison: its expected gradient is that of this loss
        where p(teacher) = a (sampling teacher-rank is weights rank), so that the two differ in the noise of the draw
        alone. With several teachers our KD is weights equal.
    """

    key = "wkd"
    title = "Averaged KD"
    family = "choice"
    formula = r"""
    \mathcal{L} &= (1-w)\,\mathcal{L}_{\text{soft}} + w\,\mathcal{L}_{\text{hard}} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\Bigl(\sum_{k=1}^{n} a_{k} \operatorname{softmax}(z^{\mathrm
      T_k}/T) \,\Big\|\, \operatorname{softmax}(z^{\mathrm S}/T)\Bigr), \qquad a_{k} \geq 0, \quad \sum_{k}
      a_{k} = 1 \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y}
    """
    papers = (
        Paper(
            key="liu2019improving",
            title="Improving Multi-Task Deep Neural Networks via Knowledge Distillation for Natural Language "
            "Understanding",
            authors="Xiaodong Liu, Pengcheng He, Weizhu Chen, Jianfeng Gao",
            venue="arXiv",
            year=2019,
            arxiv="1904.09482",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits"))
    teachers = (2, 12)

    class Config(MethodConfig):
        weights: Literal["equal", "rank", "softmax"] = Field(
            "equal", description="how much each teacher's answer weighs: alike, by the rank of its score, or softmax"
        )
        spread: float = Field(
            0.05, gt=0, le=10, description="weights=softmax: score difference that makes one weigh e times as much"
        )
        temperature: float = Field(1.0, ge=0.1, le=100, description="T: how far all distributions are flattened")
        hard_label_weight: float = hard_label_weight_field()

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.weights = _weights(config, setup.scores)

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        return has_soft_targets(config)

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_share(config, "hard_label_weight", "hard", "soft")

    @classmethod
    def mixture(cls, config: MethodConfig) -> Mixture | None:
        assert isinstance(config, cls.Config)
        return Mixture("mean", "weight", temperature=config.temperature) if has_soft_targets(config) else None

    def terms(self, step: Step) -> dict[str, Term]:
        config, logits = self.config, step.student.logits
        answers = [step.teachers[name].logits for name in self.weights]
        soft = ensemble_signal(logits, answers, config.temperature, list(self.weights.values()), step.regression)
        hard = hard_labels(logits, step.batch.labels, step.regression)
        return {"soft": Term(soft, 1 - config.hard_label_weight), "hard": Term(hard, config.hard_label_weight)}

    def notes(self) -> dict[str, float]:
        """Each teacher's weight."""
        return {f"weight/{name}": weight for name, weight in self.weights.items()}


def _weights(config: WKD.Config, scores: Mapping[str, float | None]) -> dict[str, float]:
    """Teacher -> its weight.

    Raises:
        UserError: the weights ask for a score that no one recorded.
    """
    if config.weights == "equal":
        return dict.fromkeys(scores, 1 / len(scores))
    known = all_scores(scores, "options.weights", config.weights, "choose equal weights")
    weights = by_rank(known) if config.weights == "rank" else by_softmax(known, config.spread)
    return dict(zip(scores, weights, strict=True))
