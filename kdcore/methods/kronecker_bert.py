"""KroneckerBERT: a student of Kronecker products that learns from states, attention and answers of its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from pydantic import Field

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.layer_map import LayerMap
from kdcore.losses.attention import score_mse
from kdcore.losses.hidden import token_mse
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    rows_for_teacher,
    same_heads,
    same_width,
    temperature_field,
    without_weight,
)
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want

if TYPE_CHECKING:
    from kdcore.config import RunConfig


class KroneckerBERT(Method):
    """KroneckerBERT: a student of Kronecker products imitates its teacher's embeddings, attention, states and answers.

    loss     imitate stage: embedding_weight embedding + attention_weight attention + hidden_weight hidden
             distil stage: embedding_weight embedding + attention_weight attention + hidden_weight hidden +
             soft_weight soft + hard_weight hard
    embedding (h_s0 - h_t0)^2, mean over width, a row's valid tokens, then rows; h_0: the embedding output
    attention (Z_sm - Z_tg(m))^2, mean over heads, a row's valid tokens times its valid tokens, then rows, sum over m;
             Z = Q K^T / sqrt(head width), before mask and softmax
    hidden   (h_sm - h_tg(m))^2, the mean of embedding, sum over the student's layers m = 1..M
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    layers   g(m) = m N / M, or the nearest layer: each with its own where student and teacher are equally deep
    shapes   h: [batch, tokens, width], equal widths; Z: [batch, heads, tokens, tokens], equal numbers of heads; s, t:
             logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - form: The loss is the method; the student's matrices are a setting of the student (form=kronecker-8,
        kronecker-21), so that every method can train them, and this one a plain student too. Factors start as the
        nearest ones of the initial weights, as in the paper, which factors the pretrained teacher: that is init=base,
        and then the classifier is new; theirs is the teacher's, which is init=teacher.
      - corpus: The paper's first stage reads a tenth of English Wikipedia for 3 epochs, with masked words and next
        sentences; without it the authors lose 2 (MNLI) to 17 (MRPC) points. Here it reads the task's rows, and its
        rate and length are the run's.
      - imitate_share: The share of the steps without answers is ours.
      - soft: The paper names a term of the logits and does not say which; KL at T = 1 is ours and unverified.
      - stages: That the first stage goes without the logit term is a reading of ours.
      - hidden: Whether their states are taken before or after residual and norm is unverified; ours are after.
      - layers: The paper's student is as deep as its teacher. A shallower one is ours.
      - padding: Ours leaves padding out of all means; theirs is unverified.
      - weight decay: (c A, B / c) is the same model for any c, but decay is not the same for it.
      - sums: The paper's third model adds four products a matrix, and its size as printed does not follow from its
        settings (unverified); here a matrix is one product.
      - learning rate: Theirs differs by task (1e-5 to 5e-4), and that of the first stage is printed in two ways.
    """

    key = "kronecker-bert"
    title = "KroneckerBERT"
    family = "form"
    formula = r"""
    \mathcal{L}_{\text{imitate}} &= \lambda_{\text{emb}}\,\mathcal{L}_{\text{embedding}} +
      \lambda_{\text{att}}\,\mathcal{L}_{\text{attention}} + \lambda_{\text{hid}}\,\mathcal{L}_{\text{hidden}} \\
    \mathcal{L}_{\text{distil}} &= \mathcal{L}_{\text{imitate}} + \lambda_{\text{soft}}\,\mathcal{L}_{\text{soft}} +
      \lambda_{\text{hard}}\,\mathcal{L}_{\text{hard}} \\
    W &= A \otimes B \quad \text{for each matrix } W \text{ of the student} \\
    \mathcal{L}_{\text{embedding}} &= \frac{1}{n\,d} \left\| H^{\mathrm S}_{0} - H^{\mathrm T}_{0} \right\|_F^2 \\
    \mathcal{L}_{\text{attention}} &= \sum_{m=1}^{M} \frac{1}{A\,n^2} \sum_{a=1}^{A} \left\| Z^{\mathrm
      S}_{m,a} - Z^{\mathrm T}_{g(m),a} \right\|_F^2, \qquad Z = \frac{Q K^{\top}}{\sqrt{d_k}} \\
    \mathcal{L}_{\text{hidden}} &= \sum_{m=1}^{M} \frac{1}{n\,d} \left\| H^{\mathrm S}_{m} - H^{\mathrm
      T}_{g(m)} \right\|_F^2 \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr) \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y}
    """
    papers = (
        Paper(
            key="tahaei2022kronecker",
            title="KroneckerBERT: Significant Compression of Pre-trained Language Models Through Kronecker "
            "Decomposition and Knowledge Distillation",
            authors="Marzieh S. Tahaei, Ella Charlaix, Vahid Partovi Nia, Ali Ghodsi, Mehdi Rezagholizadeh",
            venue="NAACL",
            year=2022,
            arxiv="2109.06243",
        ),
    )
    needs = Needs(student=want("logits", "hidden", "scores"), teacher=want("logits", "hidden", "scores"))
    unlabelled = ("soft_weight", "embedding_weight", "attention_weight", "hidden_weight")

    class Config(MethodConfig):
        imitate_share: float = Field(
            0.2, ge=0, le=0.95, description="share of the steps that imitate without answers, before the rest"
        )
        embedding_weight: float = Field(1.0, ge=0, le=1e5, description="weight of the embedding output")
        attention_weight: float = Field(1.0, ge=0, le=1e5, description="weight of the attention scores")
        hidden_weight: float = Field(1.0, ge=0, le=1e5, description="weight of the states")
        soft_weight: float = Field(1.0, ge=0, le=1e5, description="weight of the teacher's answer")
        hard_weight: float = Field(1.0, gt=0, le=1e5, description="weight of the gold labels")
        temperature: float = temperature_field(1.0)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        (teacher,) = setup.teachers.values()
        self.map = layer_map.single(self.layer_map(config, setup.student, teacher))
        self._layers = {m: n for m, n in self.map.items() if m > 0}
        self._states = {m: n for m, n in self.map.items() if (config.hidden_weight if m else config.embedding_weight)}
        self._scores = self._layers if config.attention_weight else {}
        if self._states:
            same_width(setup, "KroneckerBERT compares states directly")
        if self._scores:
            same_heads(setup, "KroneckerBERT compares attention head by head", "set attention_weight to 0")

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """Student layer -> teacher layer, evenly spread, 0 -> 0 for the embedding output."""
        assert isinstance(config, cls.Config)
        mapped: LayerMap = {0: (0,)} if config.embedding_weight else {}
        if config.hidden_weight or config.attention_weight:
            mapped |= layer_map.alone(layer_map.from_setting("spread", student.layers, teacher.layers, student.layers))
        return mapped

    @classmethod
    def warnings(cls, run: RunConfig) -> Iterator[UserError]:
        if run.student.form == "plain":
            yield UserError(
                "student.form", "the student has plain matrices, so that KroneckerBERT's loss alone is compared",
                "choose kronecker-8 or kronecker-21 for a student as in the paper",
            )  # fmt: skip

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        weights = {name: f"{name}_weight" for name in ("embedding", "attention", "hidden", "soft")}
        without = without_weight(config, **weights)
        imitates = config.imitate_share and any(name in without for name in ("embedding", "attention", "hidden"))
        return without | ({"stage imitate": {"imitate_share": 0.0}} if imitates else {})

    def stages(self) -> list[Stage]:
        share = self.config.imitate_share if self.map else 0.0
        ours, theirs = (
            {
                **({"hidden": layer_map.sides(self._states)[side]} if self._states else {}),
                **({"scores": layer_map.sides(self._scores)[side]} if self._scores else {}),
            }
            for side in (0, 1)
        )
        answers = want("logits") if self.config.soft_weight else {}
        distil = Stage(
            "distil", Needs(want("logits") | ours, answers | theirs), self.terms, 1 - share, lr={"student": 1.0}
        )
        if not share:
            return [distil]
        imitate = Stage(
            "imitate", Needs(ours, theirs), self.imitate, share, lr={"student": 1.0}, schedule="constant", judge="loss"
        )
        return [imitate, distil]

    def imitate(self, step: Step) -> dict[str, Term]:
        """The terms of the teacher's inside; they leave pooler and classifier as they are."""
        config, terms = self.config, {}
        apart = {
            m: token_mse(rows_for_teacher(step, step.student.hidden[m]), step.teacher.hidden[n], step.teacher.mask)
            for m, n in self._states.items()
        }
        if config.embedding_weight:
            terms["embedding"] = Term(apart[0], config.embedding_weight)
        if self._scores:
            ours = [rows_for_teacher(step, step.student.scores[m]) for m in self._scores]
            theirs = [step.teacher.scores[n] for n in self._scores.values()]
            terms["attention"] = Term(score_mse(ours, theirs, step.teacher.mask), config.attention_weight)
        if config.hidden_weight:
            states = torch.stack([apart[m] for m in self._layers]).sum()
            terms["hidden"] = Term(states, config.hidden_weight)
        return terms

    def terms(self, step: Step) -> dict[str, Term]:
        config, logits, terms = self.config, step.student.logits, self.imitate(step) if self.map else {}
        if config.soft_weight:
            answer = rows_for_teacher(step, logits)
            soft = teacher_signal(answer, step.teacher.logits, config.temperature, step.regression)
            terms["soft"] = Term(soft, config.soft_weight)
        return terms | {"hard": Term(hard_labels(logits, step.batch.labels, step.regression), config.hard_weight)}
