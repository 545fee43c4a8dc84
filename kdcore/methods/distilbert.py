"""DistilBERT's loss, used while fine-tuning on the task, and on masked words before that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kdcore.fields import NOT_TUNED
from kdcore.layer_map import LayerMap
from kdcore.losses.hidden import cosine
from kdcore.losses.precision import full
from kdcore.losses.vocabulary import IGNORE_INDEX, hidden_words, soft_words
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    hard_and_soft,
    one_term_less,
    rows_for_teacher,
    same_width,
    temperature_field,
    without_share,
    without_weight,
)
from kdcore.models import masked_lm
from kdcore.models.masked_lm import TOKENS_AT_ONCE, MaskedLM, WordHead
from kdcore.models.projections import linear
from kdcore.records import Batch, ModelSize, Needs, Paper, Setup, Stage, Step, TeacherAnswers, Term, want

MASKED, DISTIL = "masked", "distil"

HIDDEN_WORDS = "hidden words"
"""Name of the encoding whose ids are the words that were hidden from the batch's rows."""


class DistilBERT(Method):
    """DistilBERT's loss at the fine-tuning stage: soft targets, and last hidden states that point the same way.

    loss     distil stage: (1 - alpha) hard + alpha soft + cosine_weight cosine
             masked stage: vocabulary_weight vocabulary + words_weight words + states_weight states   off by default
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    cosine   1 - cos(h_s, h_t) of the last layers, mean over a row's valid tokens, then over rows
    vocabulary T^2 KL(softmax(u_t / T) || softmax(u_s / T)), u: scores over the vocabulary; mean over a row's valid
             tokens, then rows
    words    cross-entropy of softmax(u_s) with the word that was hidden, mean over a row's hidden words, then rows (a
             row without any counts as 0)
    states   1 - cos(h_s, h_m) of the last layers of student and masked language model, mean as in cosine; where widths
             differ, of h_s W + b, which u_s is made from too
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); h: [batch, tokens, width], equal widths (any, in
             states); u: [batch, tokens, vocabulary]; y: [batch]
    departs
      - corpus: The paper distils while pre-training, on masked words of a large corpus. In the distil stage the task's
        rows take the corpus' place, the logits are the task's, and the masked-language-model term is absent: the hard
        labels stand where it stood. No paper settings exist for this use, nor for scores.
      - alpha, cosine_weight: The authors' weights 5 (soft), 2 (masked words), 1 (cosine) are divided by 7, which gives
        alpha 0.71 and cosine 0.14.
      - temperature: T = 2 is theirs.
      - cosine: They average it over all valid tokens of the batch; we average within a row first, so that a long row
        weighs no more than a short one.
      - initial weights: The paper's (every second layer of the teacher) are a choice of the run, not of the method.
      - masked_lm: Where it names a model, the masked stage comes first. That model stands for the paper's pretrained
        teacher; it is frozen, and the run's own teacher is not asked in this stage.
      - masked_share: The text is the task's own rows, pairs as pairs, for a share of the run's few steps, instead of
        English Wikipedia and the Toronto BookCorpus for three epochs: no result of the paper is a target.
      - masked_chance: Each token is hidden with the same chance and is then [MASK], another token or itself, in 80, 10
        and 10 of 100 cases; the authors hide rarer words more often.
      - vocabulary_weight, words_weight, states_weight: The masked stage has the paper's three terms, with 5, 2, 1 and T
        = 2 of the command that the authors published (the defaults of their script are others). They average over the
        batch's tokens, we within a row first.
      - vocabulary: The paper prints the soft loss without T^2 and without its minus sign; their code has T^2 KL, and so
        have we.
      - word scores: The student's come from a copy of that model's head, which learns, over that model's table of
        words, which does not; theirs are tied to the student's own embeddings. W and b for widths that differ are ours.
        The head is not exported.
      - learning rate: One serves both stages; theirs is 5e-4, with up to 4,000 rows a step.
      - frozen parts: The student keeps token types and pooler; the masked stage leaves its pooler and classifier as
        they are.
      - select: Nothing is hidden there: vocabulary and states judge the masked stage.
      - cost: The predicted cost counts neither the masked language model nor the scores over the vocabulary: with a
        model of BERT-base's size, a step took 2.7 times the passes of its student (six layers of width 768, short rows,
        one core).
    """

    key = "distilbert"
    title = "DistilBERT loss"
    family = "hidden"
    formula = r"""
    \mathcal{L}_{\text{distil}} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} +
      \lambda_{\text{cos}}\,\mathcal{L}_{\text{cosine}} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr) \\
    \mathcal{L}_{\text{cosine}} &= \frac{1}{n} \sum_{i=1}^{n} \bigl(1 - \cos(h^{\mathrm S}_{i}, h^{\mathrm
      T}_{i})\bigr) \\
    \mathcal{L}_{\text{masked}} &= \lambda_{\text{voc}}\,\mathcal{L}_{\text{vocabulary}} +
      \lambda_{\text{words}}\,\mathcal{L}_{\text{words}} + \lambda_{\text{states}}\,\mathcal{L}_{\text{states}}
    """
    papers = (
        Paper(
            key="sanh2019distilbert",
            title="DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
            authors="Victor Sanh, Lysandre Debut, Julien Chaumond, Thomas Wolf",
            venue="NeurIPS EMC2 Workshop",
            year=2019,
            arxiv="1910.01108",
        ),
    )
    needs = Needs(student=want("logits", "hidden"), teacher=want("logits", "hidden"))
    unlabelled = ("alpha", "cosine_weight")

    class Config(MethodConfig):
        alpha: float = alpha_field(0.71)
        temperature: float = temperature_field(2.0)
        cosine_weight: float = Field(0.14, ge=0, le=100, description="weight of the direction of last hidden states")
        masked_lm: str = Field(
            "",
            max_length=500,
            description="masked language model for a first stage on masked words: folder:/path, hub:organisation/name "
            "or package:name; empty: no such stage",
        )
        masked_share: float = Field(
            0.5, ge=0.05, le=0.95, description="masked stage: its share of the steps", json_schema_extra=NOT_TUNED
        )
        masked_chance: float = Field(
            0.15,
            ge=0.01,
            le=0.9,
            description="masked stage: chance that a token is hidden",
            json_schema_extra=NOT_TUNED,
        )
        vocabulary_weight: float = Field(
            5.0, ge=0, le=100, description="masked stage: weight of the soft targets over the vocabulary",
            json_schema_extra=NOT_TUNED,
        )  # fmt: skip
        words_weight: float = Field(
            2.0,
            ge=0,
            le=100,
            description="masked stage: weight of the words that were hidden",
            json_schema_extra=NOT_TUNED,
        )
        states_weight: float = Field(
            1.0, ge=0, le=100, description="masked stage: weight of the direction of last hidden states",
            json_schema_extra=NOT_TUNED,
        )  # fmt: skip

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        if config.cosine_weight:
            same_width(setup, "the cosine term compares hidden states directly")
        self.head: WordHead | None = None
        self.projection: nn.Module | None = None
        self._model: MaskedLM | None = None
        self._steps = 0
        if config.masked_lm:
            self._found = masked_lm.find(config.masked_lm, setup.student)
            self.head = masked_lm.read_head(self._found)
            width = self.head.dense.in_features
            if width != setup.student.width:
                self.projection = linear(setup.student.width, width, setup.seed)

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """The last layers, unless their weight is 0."""
        assert isinstance(config, cls.Config)
        return {student.layers: (teacher.layers,)} if config.cosine_weight else {}

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        without = without_share(config) | without_weight(config, cosine="cosine_weight")
        if config.masked_lm:
            weights = {name: f"{name}_weight" for name in ("vocabulary", "words", "states")}
            without |= one_term_less(config, **weights) | {"stage masked": {"masked_lm": ""}}
        return without

    def stages(self) -> list[Stage]:
        if self.head is None:
            return [self._distil(1.0)]
        share, needs = self.config.masked_share, Needs(student=want(hidden=(self._last_student(),)))
        return [Stage(MASKED, needs, self.masked_terms, share, judge="loss"), self._distil(1 - share)]

    def _distil(self, share: float) -> Stage:
        student, teacher = want("logits"), want("logits")
        if self.config.cosine_weight:
            student = want("logits", hidden=(self._last_student(),))
            teacher = want("logits", hidden=(self._last_teacher(),))
        return Stage(DISTIL, Needs(student, teacher), self.terms, share, lr={"student": 1.0})

    def terms(self, step: Step) -> dict[str, Term]:
        config, student, teacher = self.config, step.student, step.teacher
        terms = hard_and_soft(step, config.alpha, config.temperature)
        if config.cosine_weight:
            ours = rows_for_teacher(step, student.hidden[self._last_student()])
            apart = cosine(ours, teacher.hidden[self._last_teacher()], rows_for_teacher(step, student.mask))
            terms["cosine"] = Term(apart, config.cosine_weight)
        return terms

    # --- the masked stage -------------------------------------------------------------------------------------------

    def before_stage(self, stage: str, teachers: TeacherAnswers) -> None:
        """Reads the masked language model for its stage, and lets it go after that."""
        self._model = None
        if self.head is not None and stage == MASKED:
            self._model = masked_lm.load(self._found, teachers.vocabulary()).to(self.head.bias.device)

    def stream(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """In the masked stage, batches with words hidden; which ones follows from seed and the batch's number."""
        if self._model is None:
            return batches
        model, numbered = self._model, enumerate(batches, start=self._steps)
        return (self._hidden(model, batch, number) for number, batch in numbered)

    @property
    def alters_words(self) -> bool:
        return self._model is not None

    def _hidden(self, model: MaskedLM, batch: Batch, number: int) -> Batch:
        rng = np.random.default_rng((self.setup.seed, number))
        shown, words = model.hide(batch.encoding, self.config.masked_chance, rng)
        hidden = replace(shown, input_ids=words)
        return replace(batch, ids=-1 - batch.ids, encodings={"": shown, HIDDEN_WORDS: hidden})

    def masked_terms(self, step: Step) -> dict[str, Term]:
        """The masked stage's terms; they leave pooler and classifier as they are."""
        assert self._model is not None, "before_stage reads the model"
        encodings, mask = step.batch.encodings, step.student.mask
        nothing = torch.full_like(step.batch.encoding.input_ids, IGNORE_INDEX)
        words = encodings[HIDDEN_WORDS].input_ids if HIDDEN_WORDS in encodings else nothing
        ours = full(step.student.hidden[self._last_student()])
        if self.projection is not None:
            ours = self.projection(ours)
        theirs = self._model.states(step.batch.encoding)
        soft, hard = self._compare_words(ours, theirs, mask, words)
        return {
            "vocabulary": Term(soft, self.config.vocabulary_weight),
            "words": Term(hard, self.config.words_weight),
            "states": Term(cosine(ours, theirs, mask), self.config.states_weight),
        }

    def _compare_words(self, *tensors: Tensor) -> Sequence[Tensor]:
        """Soft and hard loss of all rows, some at a time: scores over a vocabulary are large, so they are computed anew
        on the way back."""
        rows = max(1, TOKENS_AT_ONCE // tensors[0].shape[1])
        parts = zip(*(tensor.split(rows) for tensor in tensors), strict=True)  # type: ignore[no-untyped-call]
        losses = (checkpoint(self._word_losses, *part, use_reentrant=False, preserve_rng_state=False) for part in parts)
        return [torch.cat(each).mean() for each in zip(*losses, strict=True)]

    def _word_losses(self, ours: Tensor, theirs: Tensor, mask: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Soft and hard loss of each row, [rows]."""
        assert self._model is not None and self.head is not None
        scores = self.head(ours, self._model.table)
        soft = soft_words(scores, self._model.scores(theirs), mask, self.config.temperature)
        return soft, hidden_words(scores, words)

    def after_step(self, step: Step) -> None:
        self._steps += self._model is not None

    def history(self) -> dict[str, object]:
        return {"masked steps": self._steps} if self.head is not None else {}

    def restore_history(self, history: Mapping[str, object]) -> None:
        steps = history.get("masked steps", 0)
        assert isinstance(steps, int)
        self._steps = steps

    def _last_student(self) -> int:
        return self.setup.student.layers

    def _last_teacher(self) -> int:
        return next(iter(self.setup.teachers.values())).layers
