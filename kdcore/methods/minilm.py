"""MiniLM's deep self-attention distillation, on task data."""

from __future__ import annotations

from pydantic import Field

from kdcore.layer_map import LayerMap
from kdcore.losses.relation import attention_divergence, merge_heads, token_relations
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    hard_and_soft,
    rows_for_teacher,
    same_heads,
    temperature_field,
    without_share,
    without_weight,
)
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want


class MiniLM(Method):
    """MiniLM: the student's last layer attends as the teacher's last layer does, and relates its values as that does.

    loss     first attention + value_weight values, then (1 - alpha) hard + alpha soft
    attention KL(A_t || A_s) of what each token attends to, mean over heads, a row's valid tokens, then rows
    values   KL(R_t || R_s), R = softmax(V V^T / sqrt(head width)) per head over the valid tokens; the same mean
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    shapes   A, R: [batch, heads, tokens, tokens], equal numbers of heads, any widths; V: [batch, heads, tokens, head
             width]; s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - corpus: The paper distils a pretrained teacher on a large corpus for hundreds of thousands of steps, and only
        then fine-tunes the student on each task. Here both happen on the task's rows, and the teacher is the run's, as
        a rule fine-tuned. Figures of the paper are therefore no target for this.
      - relation_share: A share of the run's steps goes to attention and values.
      - value_weight: The two terms weigh 1 and 1, as in the paper.
      - gradient: Attention and values give none to the last layer's output projection, feed-forward part and layer
        norms, nor to pooler and classifier: they keep their initial weights until the second part, which trains the
        whole student.
      - alpha, temperature: The paper's second part is plain fine-tuning (alpha = 0); soft targets, with alpha and T of
        our KD, are ours.
      - scores: Scores (STS-B) are ours.
      - dropout: Attention is compared before dropout.
      - initial weights: The student's are a choice of the run; what the paper started from is unverified.
      - teacher assistant: The one that the paper puts between a teacher and a far smaller student is not built in.
    """

    key = "minilm"
    title = "MiniLM"
    family = "relation"
    formula = r"""
    \mathcal{L}_{1} &= \mathcal{L}_{\text{attention}} + \lambda_{\text{val}}\,\mathcal{L}_{\text{values}},
      \qquad \mathcal{L}_{2} = (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} \\
    \mathcal{L}_{\text{attention}} &= \frac{1}{A\,n} \sum_{a=1}^{A} \sum_{i=1}^{n} \mathrm{KL}\bigl(A^{\mathrm
      T}_{a,i} \,\big\|\, A^{\mathrm S}_{a,i}\bigr) \\
    \mathcal{L}_{\text{values}} &= \frac{1}{A\,n} \sum_{a=1}^{A} \sum_{i=1}^{n} \mathrm{KL}\bigl(R^{\mathrm
      T}_{a,i} \,\big\|\, R^{\mathrm S}_{a,i}\bigr), \qquad R_{a} = \operatorname{softmax}\!\left(\frac{V_{a}
      V_{a}^{\top}}{\sqrt{d_k}}\right) \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr)
    """
    papers = (
        Paper(
            key="wang2020minilm",
            title="MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
            authors="Wenhui Wang, Furu Wei, Li Dong, Hangbo Bao, Nan Yang, Ming Zhou",
            venue="NeurIPS",
            year=2020,
            arxiv="2002.10957",
        ),
    )
    needs = Needs(student=want("attention", "values", "logits"), teacher=want("attention", "values", "logits"))
    unlabelled = ("relation_share",)

    class Config(MethodConfig):
        relation_share: float = Field(
            0.5,
            ge=0.05,
            le=0.95,
            description="share of the steps for attention and values; prediction has the rest",
        )
        value_weight: float = Field(1.0, ge=0, le=100, description="weight of the value relations; attention has 1")
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(10.0)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.student_layer, self.teacher_layer = setup.student.layers, next(iter(setup.teachers.values())).layers
        same_heads(
            setup, "MiniLM compares attention head by head", "choose MiniLMv2, which relates tokens without them"
        )

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """The last layers."""
        return {student.layers: (teacher.layers,)}

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_weight(config, values="value_weight") | without_share(config)

    def stages(self) -> list[Stage]:
        share = self.config.relation_share
        needs = Needs(self._captures(self.student_layer), self._captures(self.teacher_layer))
        logits = Needs(student=want("logits"), teacher=want("logits"))
        return [
            Stage("relations", needs, self.relations, share, judge="loss"),
            Stage("predict", logits, self.terms, 1 - share, labelled=not self.config.alpha),
        ]

    def _captures(self, layer: int) -> dict[str, tuple[int, ...]]:
        return want(attention=(layer,), values=(layer,)) if self.config.value_weight else want(attention=(layer,))

    def relations(self, step: Step) -> dict[str, Term]:
        """The first part's terms; they leave the last layer's output, the pooler and the classifier as they are."""
        student, teacher, mask = step.student, step.teacher, rows_for_teacher(step, step.student.mask)
        attends = rows_for_teacher(step, student.attention[self.student_layer])
        attention = attention_divergence(attends, teacher.attention[self.teacher_layer], mask)
        terms = {"attention": Term(attention)}
        if self.config.value_weight:
            ours = rows_for_teacher(step, student.values[self.student_layer])
            theirs = teacher.values[self.teacher_layer]
            values = token_relations(merge_heads(ours), merge_heads(theirs), mask, heads=ours.shape[1])
            terms["values"] = Term(values, self.config.value_weight)
        return terms

    def terms(self, step: Step) -> dict[str, Term]:
        return hard_and_soft(step, self.config.alpha, self.config.temperature)
