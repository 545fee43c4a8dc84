"""MiniLMv2's self-attention relation distillation, on task data."""

from __future__ import annotations

import math

from pydantic import Field

from kdcore.errors import UserError
from kdcore.layer_map import LayerMap, pairs
from kdcore.losses.relation import merge_heads, token_relations
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    hard_and_soft,
    one_term_less,
    rows_for_teacher,
    temperature_field,
    without_share,
)
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want

BLOCK = 16
"""Width of a teacher's block where the number of relation heads is automatic: 48 heads for 768, 64 for 1024."""


class MiniLMv2(Method):
    """MiniLMv2: the queries, keys and values of the student's last layer relate to themselves as the teacher's do.

    loss     first query_weight queries + key_weight keys + value_weight values, then (1 - alpha) hard + alpha soft
    queries  KL(R_t || R_s), R = softmax(X_a X_a^T / sqrt(d / r)) over the valid tokens, X_a: the a-th of r contiguous
             blocks of all heads' queries side by side, d: each model's own width; mean over a, a row's valid tokens,
             then rows
    keys     the same of the keys
    values   the same of the values
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    shapes   X: [batch, tokens, width], R: [batch, r, tokens, tokens], any widths that r divides, any numbers of heads;
             s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - sources: Of the paper only the abstract was read; the relations follow an implementation by others.
      - query_weight, key_weight, value_weight: The defaults 1, 1, 1 are that implementation's; the paper's weights are
        unverified.
      - relation_heads: Quoted as 48 for width 768 and 64 for 1024, which is unverified: 0 takes as many, blocks of 16
        of the teacher's width, or the next smaller number that divides both widths.
      - teacher_layer: Those quoted for large teachers (21 of 24 for BERT, 19 for RoBERTa) are unverified; the default
        is the last.
      - corpus: The paper distils a pretrained teacher on a large corpus for hundreds of thousands of steps, and only
        then fine-tunes the student on each task. Here both happen on the task's rows, and the teacher is the run's, as
        a rule fine-tuned. Figures of the paper are therefore no target for this.
      - relation_share: A share of the run's steps goes to the relations.
      - gradient: Relations give none to the last layer's output projection, feed-forward part and layer norms, nor to
        pooler and classifier: they keep their initial weights until the second part, which trains the whole student.
      - alpha, temperature: For the paper the second part is fine-tuning (alpha = 0); soft targets, with alpha and T of
        our KD, are ours.
      - scores: Scores (STS-B) are ours.
      - initial weights: The student's are a choice of the run; the paper's are unverified.
    """

    key = "minilm-v2"
    title = "MiniLMv2"
    family = "relation"
    formula = r"""
    \mathcal{L}_{1} &= \lambda_{Q}\,\mathcal{L}_{Q} + \lambda_{K}\,\mathcal{L}_{K} +
      \lambda_{V}\,\mathcal{L}_{V}, \qquad \mathcal{L}_{2} = (1-\alpha)\,\mathcal{L}_{\text{hard}} +
      \alpha\,\mathcal{L}_{\text{soft}} \\
    \mathcal{L}_{X} &= \frac{1}{r\,n} \sum_{a=1}^{r} \sum_{i=1}^{n} \mathrm{KL}\bigl(R^{\mathrm T}_{X,a,i}
      \,\big\|\, R^{\mathrm S}_{X,a,i}\bigr), \qquad X \in \{Q, K, V\} \\
    R_{X,a} &= \operatorname{softmax}\!\left(\frac{X_{a} X_{a}^{\top}}{\sqrt{d/r}}\right) \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr)
    """
    papers = (
        Paper(
            key="wang2021minilmv2",
            title="MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers",
            authors="Wenhui Wang, Hangbo Bao, Shaohan Huang, Li Dong, Furu Wei",
            venue="Findings of ACL",
            year=2021,
            arxiv="2012.15828",
        ),
    )
    needs = Needs(
        student=want("queries", "keys", "values", "logits"), teacher=want("queries", "keys", "values", "logits")
    )
    unlabelled = ("relation_share",)

    class Config(MethodConfig):
        relation_share: float = Field(
            0.5, ge=0.05, le=0.95, description="share of the steps for the relations; prediction has the rest"
        )
        relation_heads: int = Field(
            0, ge=0, le=1024, description="blocks that both widths are split into; 0: 16 of the teacher's width each"
        )
        teacher_layer: int = Field(0, ge=0, le=100, description="teacher layer that is imitated; 0: the last")
        query_weight: float = Field(1.0, ge=0, le=100, description="weight of the relations between queries")
        key_weight: float = Field(1.0, ge=0, le=100, description="weight of the relations between keys")
        value_weight: float = Field(1.0, ge=0, le=100, description="weight of the relations between values")
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(10.0)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        teacher = next(iter(setup.teachers.values()))
        ((self.student_layer, self.teacher_layer),) = pairs(self.layer_map(config, setup.student, teacher))
        self.heads = _relation_heads(config.relation_heads, setup.student.width, teacher.width)
        every = {"queries": config.query_weight, "keys": config.key_weight, "values": config.value_weight}
        self.weights = {name: weight for name, weight in every.items() if weight}
        if not self.weights:
            raise UserError(
                "options.query_weight",
                "the weights of queries, keys and values are all 0, so there is nothing to imitate",
                "give one of them a weight, or choose KD",
            )

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """The student's last layer -> the chosen layer of the teacher.

        Raises:
            UserError: a layer the teacher does not have.
        """
        assert isinstance(config, cls.Config)
        if config.teacher_layer > teacher.layers:
            raise UserError(
                "options.teacher_layer",
                f"the teacher has layers 1 to {teacher.layers}, not {config.teacher_layer}",
                "name one of those, or 0 for the last",
            )
        return {student.layers: (config.teacher_layer or teacher.layers,)}

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        weights = {"queries": "query_weight", "keys": "key_weight", "values": "value_weight"}
        return one_term_less(config, **weights) | without_share(config)

    def stages(self) -> list[Stage]:
        share = self.config.relation_share
        needs = Needs(
            student=want(**dict.fromkeys(self.weights, (self.student_layer,))),
            teacher=want(**dict.fromkeys(self.weights, (self.teacher_layer,))),
        )
        logits = Needs(student=want("logits"), teacher=want("logits"))
        return [
            Stage("relations", needs, self.relations, share, judge="loss"),
            Stage("predict", logits, self.terms, 1 - share, labelled=not self.config.alpha),
        ]

    def relations(self, step: Step) -> dict[str, Term]:
        """The first part's terms; they leave the last layer's output, the pooler and the classifier as they are."""
        terms, mask = {}, rows_for_teacher(step, step.student.mask)
        for name, weight in self.weights.items():
            ours = rows_for_teacher(step, getattr(step.student, name)[self.student_layer])
            theirs = getattr(step.teacher, name)[self.teacher_layer]
            value = token_relations(merge_heads(ours), merge_heads(theirs), mask, self.heads)
            terms[name] = Term(value, weight)
        return terms

    def terms(self, step: Step) -> dict[str, Term]:
        return hard_and_soft(step, self.config.alpha, self.config.temperature)


def _relation_heads(chosen: int, student: int, teacher: int) -> int:
    """The number of blocks for these widths: as chosen, or the largest that leaves the teacher's at least 16 wide.

    Raises:
        UserError: the chosen number does not divide both widths.
    """
    both = math.gcd(student, teacher)
    if not chosen:
        return next(heads for heads in range(max(1, teacher // BLOCK), 0, -1) if both % heads == 0)
    if both % chosen:
        raise UserError(
            "options.relation_heads",
            f"{chosen} relation heads do not divide both widths, {student} of the student and {teacher} of the teacher",
            f"choose a divisor of {both}, or 0 for {_relation_heads(0, student, teacher)}",
        )
    return chosen
