"""Multi-level knowledge distillation: features, and relations of tokens and of rows."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.layer_map import LayerMap
from kdcore.losses.contrast import sample_similarity, supervised_contrast
from kdcore.losses.hidden import token_mse
from kdcore.losses.precision import full
from kdcore.losses.relation import token_relations
from kdcore.losses.soft_targets import teacher_signal
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    rows_for_teacher,
    temperature_field,
    without_stage,
    without_weight,
)
from kdcore.models.projections import linears
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want


class MLKDBERT(Method):
    """MLKD-BERT: the student's layers learn the teacher's states and relations of tokens, its output those of rows.

    loss     representation stage: embedding_weight embedding + attention_weight attention + hidden_weight hidden
             prediction stage: sample_weight sample + contrast_weight contrast + soft_weight soft
    embedding KL(R(e_t) || R(e_s)), R(x) = softmax(x x^T / sqrt(width)), e: LayerNorm of word embeddings, no positions;
             mean over a row's valid tokens, then over rows
    attention KL of the same relations of the heads' outputs, cut into A contiguous splits in both models, so that their
             numbers of heads are free; mean over splits, valid tokens and rows, sum over layers m = 1..M
    hidden   (W_m h_m + b_m - h_g(m))^2, mean over width, valid tokens and rows, sum over m = 0..M (0: the embeddings)
    sample   KL(R(c_t) || R(c_s)) between the batch's rows, c: last [CLS] states, not projected; mean over rows
    contrast U mean_i mean_p -log(exp(f_i f_p / U) / sum_{a != i} exp(f_i f_a / U)), f: the batch's W_M c_s + b_M and
             its c_t, all at length 1; p: the others of i's gold class; U: contrast_temperature
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    shapes   e, h, heads' outputs: [batch, tokens, width]; c: [batch, width]; W_m: [teacher's width, student's width];
             A divides both widths; s, t: logits [batch, classes] (scores: [batch, 1])
    departs
      - sources: The paper's text could not be read. A summary of it and a repository that its first author most likely
        wrote (unverified) agree on the six terms, weight 1 each. Where they differ we follow the code, and the
        summary's form is a setting. The paper's own tables, of results as of settings, are unverified.
      - representation_share: The code trains 50 + 30 epochs on CoLA, 20 + 15 on MRPC, RTE and STS-B, 15 + 10 on SST-2,
        10 + 10 on QNLI, 6 + 6 on MNLI and QQP: a share of 0.5 to 0.625 for representation.
      - soft_weight: The code averages its soft cross-entropy over the C classes too, which is soft_weight 1 / C; 1 is
        the summary's.
      - contrast_scaled: The summary's contrast (off) lacks the factor U = 0.07, which makes it 14 times heavier.
      - gold labels: They enter through the contrast alone. Scores are a class where they are exactly equal, as in the
        code.
      - layers: Spread is the paper's uniform map where the student's layers divide the teacher's, and takes the nearest
        layers elsewhere, which is ours.
      - splits: A is 12 in the code and the student's number of heads in the summary and here; what the runs with 6 and
        3 heads used is unverified.
      - projection: The summary (shared) has one for all of m = 1..M. The code's projections start from random weights,
        ours from the identity where widths are equal.
      - embedding_norm: The summary (off) takes word embeddings as they are. The code normalises them by the embedding
        layer's own LayerNorm, we without gain and bias.
      - padding: The code masks none; here padded tokens relate to nothing and count for nothing, so that a row's token
        terms do not depend on the batch's longest row.
      - dropout: The code leaves the teacher's on; we do not. Its attention term reads the heads' outputs without the
        student's attention dropout, its classifier relu of the pooled output without dropout; ours read what BERT
        computes.
      - last batch: The code skips one that is not full; we do not.
      - learning rate: The code trains with 32 rows at rate 5e-5, constant, then linear with 10 % warm-up; we warm up in
        both stages.
      - initial weights: Students of the code start from the public general TinyBERT (4 layers of 312, feed-forward
        1200, or 6 of 768; 12 heads), here a choice of the run.
      - results: The code's logs show no gain from sample and contrast for 4 layers (GLUE dev mean 78.2 with them, 78.4
        without), and none from attention on CoLA, MNLI and MRPC.
      - SQuAD: The form for it is left out.
    """

    key = "mlkd"
    title = "MLKD-BERT"
    family = "relation"
    formula = r"""
    \mathcal{L}_{\text{representation}} &= \lambda_{\text{emb}}\,\mathcal{L}_{\text{embedding}} +
      \lambda_{\text{att}}\,\mathcal{L}_{\text{attention}} + \lambda_{\text{hid}}\,\mathcal{L}_{\text{hidden}} \\
    \mathcal{L}_{\text{hidden}} &= \sum_{m=0}^{M} \frac{1}{n\,d} \left\| W_{m} h^{\mathrm S}_{m} + b_{m} -
      h^{\mathrm T}_{g(m)} \right\|_F^2, \qquad R(x) = \operatorname{softmax}\!\left(\frac{x
      x^{\top}}{\sqrt{d}}\right) \\
    \mathcal{L}_{\text{embedding}} &= \frac{1}{n} \sum_{i=1}^{n} \mathrm{KL}\bigl(R(e^{\mathrm T})_{i}
      \,\big\|\, R(e^{\mathrm S})_{i}\bigr), \qquad \mathcal{L}_{\text{attention}} = \sum_{m=1}^{M}
      \frac{1}{A\,n} \sum_{a=1}^{A} \sum_{i=1}^{n} \mathrm{KL}\bigl(R(o^{\mathrm T}_{g(m),a})_{i} \,\big\|\,
      R(o^{\mathrm S}_{m,a})_{i}\bigr) \\
    \mathcal{L}_{\text{prediction}} &= \lambda_{\text{sam}}\,\mathcal{L}_{\text{sample}} +
      \lambda_{\text{con}}\,\mathcal{L}_{\text{contrast}} + \lambda_{\text{soft}}\,\mathcal{L}_{\text{soft}},
      \qquad \mathcal{L}_{\text{sample}} = \frac{1}{B} \sum_{i=1}^{B} \mathrm{KL}\bigl(R(c^{\mathrm T})_{i}
      \,\big\|\, R(c^{\mathrm S})_{i}\bigr) \\
    \mathcal{L}_{\text{contrast}} &= U\, \operatorname*{mean}_{i}\, \operatorname*{mean}_{p \in P(i)} \left(
      -\log \frac{\exp(f_{i}^{\top} f_{p} / U)}{\sum_{a \neq i} \exp(f_{i}^{\top} f_{a} / U)} \right) \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr)
    """
    papers = (
        Paper(
            key="zhang2024mlkd",
            title="MLKD-BERT: Multi-level Knowledge Distillation for Pre-trained Language Models",
            authors="Ying Zhang, Ziheng Yang, Shufan Ji",
            venue="arXiv preprint",
            year=2024,
            arxiv="2407.02775",
        ),
    )
    needs = Needs(
        student=want("logits", "cls", "embeddings", "hidden", "head_outputs"),
        teacher=want("logits", "cls", "embeddings", "hidden", "head_outputs"),
    )
    batch_relational = True

    class Config(MethodConfig):
        representation_share: float = Field(
            0.55, ge=0, le=0.95, description="share of the run's steps for the representation stage; 0: no such stage"
        )
        embedding_weight: float = Field(1.0, ge=0, le=1e5, description="weight of token relations of word embeddings")
        attention_weight: float = Field(1.0, ge=0, le=1e5, description="weight of token relations of heads' outputs")
        hidden_weight: float = Field(1.0, ge=0, le=1e5, description="weight of the distance of projected hidden states")
        sample_weight: float = Field(1.0, ge=0, le=1e5, description="weight of relations between the batch's rows")
        contrast_weight: float = Field(1.0, ge=0, le=1e5, description="weight of the contrast of rows by gold class")
        soft_weight: float = Field(
            1.0, gt=0, le=1e5, description="weight of the soft targets; above 0, for they alone train the classifier"
        )
        temperature: float = temperature_field(1.0)
        contrast_temperature: float = Field(
            0.07, ge=0.01, le=10, description="U: the lower, the more the most similar rows count in the contrast"
        )
        contrast_scaled: bool = Field(True, description="multiply the contrast by its temperature, as the code does")
        layers: Literal["spread", "uniform", "last", "first"] = Field(
            "spread", description="teacher layers for the student's; uniform: only where the student's divide them"
        )
        splits: int = Field(
            0, ge=0, le=1024, description="A: parts the heads' outputs are cut into; 0: the student's number of heads"
        )
        projection: Literal["per-layer", "shared"] = Field(
            "per-layer", description="one for each layer and the embeddings (code), or one for layers 1..M (summary)"
        )
        embedding_norm: bool = Field(True, description="scale each word embedding by LayerNorm before relating it")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.teacher = next(iter(setup.teachers.values()))
        self.map = layer_map.single(self.layer_map(config, setup.student, self.teacher))
        if self.map and config.attention_weight:
            self.splits = _splits(config.splits or setup.student.heads, setup.student.width, self.teacher.width)
        projected = [*self.map] if config.hidden_weight else []
        if config.contrast_weight:
            projected.append(setup.student.layers)
        names = sorted({self._projection(layer) for layer in projected})
        self.projections = linears(names, setup.student.width, self.teacher.width, setup.seed)

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """Student layers 1..M (and 0, where the embedding output is matched) -> teacher layers, in the first stage.

        Raises:
            UserError: the rule does not fit the two depths.
        """
        assert isinstance(config, cls.Config)
        if not config.representation_share or not (config.attention_weight or config.hidden_weight):
            return {}
        inner = layer_map.alone(layer_map.from_setting(config.layers, student.layers, teacher.layers))
        return {0: (0,), **inner} if config.hidden_weight and config.projection == "per-layer" else inner

    @classmethod
    def relates_rows(cls, config: MethodConfig) -> bool:
        """Relations between rows and the contrast, both of the prediction stage."""
        assert isinstance(config, cls.Config)
        return config.sample_weight > 0 or config.contrast_weight > 0

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        """The contrast tells rows apart by their gold class."""
        assert isinstance(config, cls.Config)
        return not config.contrast_weight

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        weights = {name: f"{name}_weight" for name in ("embedding", "attention", "hidden")}
        without = without_stage(config, "representation", "representation_share", **weights)
        return without | without_weight(config, sample="sample_weight", contrast="contrast_weight")

    # --- the two stages ---------------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        config = self.config
        if not self._represents():
            return [self._prediction(share=1.0)]
        representation = Stage(
            "representation",
            self._representation_needs(),
            self.representation_terms,
            share=config.representation_share,
            lr=_rates(method=config.hidden_weight > 0),
            schedule="constant",
            judge="loss",
        )
        return [representation, self._prediction(share=1 - config.representation_share)]

    def representation_terms(self, step: Step) -> dict[str, Term]:
        """Terms of the representation stage; none of them reaches the pooler or the classifier."""
        config, mask = self.config, rows_for_teacher(step, step.student.mask)
        terms = {}
        if config.embedding_weight:
            terms["embedding"] = Term(self._embedding(step, mask), config.embedding_weight)
        if config.attention_weight:
            terms["attention"] = Term(self._attention(step, mask), config.attention_weight)
        if config.hidden_weight:
            terms["hidden"] = Term(self._hidden(step, mask), config.hidden_weight)
        return terms

    def terms(self, step: Step) -> dict[str, Term]:
        """Terms of the prediction stage."""
        config, ours, theirs = self.config, rows_for_teacher(step, step.student.logits), step.teacher.logits
        soft = teacher_signal(ours, theirs, config.temperature, step.regression)
        terms = {"soft": Term(soft, config.soft_weight)}
        if config.sample_weight:
            terms["sample"] = Term(sample_similarity(*self._last_cls(step)), config.sample_weight)
        if config.contrast_weight:
            factor = config.contrast_temperature if config.contrast_scaled else 1.0
            terms["contrast"] = Term(self._contrast(step), factor * config.contrast_weight)
        return terms

    def _represents(self) -> bool:
        config = self.config
        weights = config.embedding_weight + config.attention_weight + config.hidden_weight
        return weights > 0 and config.representation_share > 0

    def _representation_needs(self) -> Needs:
        config = self.config
        student: dict[str, tuple[int, ...]] = {}
        teacher: dict[str, tuple[int, ...]] = {}
        if config.embedding_weight:
            student["embeddings"] = teacher["embeddings"] = ()
        if config.attention_weight:
            student["head_outputs"], teacher["head_outputs"] = layer_map.sides(self._attention_map())
        if config.hidden_weight:
            student["hidden"], teacher["hidden"] = layer_map.sides(self.map)
        return Needs(student, teacher)

    def _prediction(self, share: float) -> Stage:
        config = self.config
        student, teacher = want("logits"), want("logits")
        if config.sample_weight or config.contrast_weight:
            student["cls"], teacher["cls"] = (self.setup.student.layers,), (self.teacher.layers,)
        rates = _rates(method=config.contrast_weight > 0)
        return Stage("prediction", Needs(student, teacher), self.terms, share=share, lr=rates)

    # --- the terms --------------------------------------------------------------------------------------------------

    def _embedding(self, step: Step, mask: Tensor) -> Tensor:
        ours, theirs = full(rows_for_teacher(step, step.student.embeddings)), full(step.teacher.embeddings)
        if self.config.embedding_norm:
            ours, theirs = F.layer_norm(ours, ours.shape[-1:]), F.layer_norm(theirs, theirs.shape[-1:])
        return token_relations(ours, theirs, mask, heads=1)

    def _attention(self, step: Step, mask: Tensor) -> Tensor:
        ours, theirs = step.student.head_outputs, step.teacher.head_outputs
        layers = [
            token_relations(rows_for_teacher(step, ours[m]), theirs[n], mask, self.splits)
            for m, n in self._attention_map().items()
        ]
        return torch.stack(layers).sum()

    def _hidden(self, step: Step, mask: Tensor) -> Tensor:
        layers = []
        for m, n in self.map.items():
            ours = self._project(m, rows_for_teacher(step, step.student.hidden[m]))
            layers.append(token_mse(ours, step.teacher.hidden[n], mask))
        return torch.stack(layers).sum()

    def _contrast(self, step: Step) -> Tensor:
        ours, theirs = self._last_cls(step)
        labels = rows_for_teacher(step, step.batch.labels)
        projected = self._project(self.setup.student.layers, ours)
        return supervised_contrast(projected, theirs, labels, self.config.contrast_temperature)

    def _last_cls(self, step: Step) -> tuple[Tensor, Tensor]:
        """The [CLS] states of both models' last layers, [batch, width] each."""
        ours = rows_for_teacher(step, step.student.cls[self.setup.student.layers])
        return ours, step.teacher.cls[self.teacher.layers]

    def _attention_map(self) -> dict[int, int]:
        """The map without the embedding output, which has no heads."""
        return {m: n for m, n in self.map.items() if m}

    def _project(self, layer: int, states: Tensor) -> Tensor:
        """A student's states [..., its width] in the teacher's width, float32."""
        projected: Tensor = self.projections[self._projection(layer)](full(states))
        return projected

    def _projection(self, layer: int) -> str:
        return "shared" if self.config.projection == "shared" else str(layer)


def _splits(splits: int, student: int, teacher: int) -> int:
    """So many splits of the heads' outputs.

    Raises:
        UserError: they do not divide both widths.
    """
    both = math.gcd(student, teacher)
    if both % splits:
        fitting = ", ".join(str(n) for n in range(1, min(both, 64) + 1) if both % n == 0)
        raise UserError(
            "options.splits",
            f"{splits} splits do not divide both widths, {student} of the student and {teacher} of the teacher",
            f"choose one of {fitting}",
        )
    return splits


def _rates(method: bool) -> dict[str, float]:
    """Who is trained, all at the run's rate; a stage that reads no projection leaves those frozen."""
    return {"student": 1.0, "method": 1.0} if method else {"student": 1.0}
