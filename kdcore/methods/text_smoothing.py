"""TextSmoothing: the student learns from texts in which each word is a mixture of those that may stand there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from kdcore.losses.soft_targets import hard_labels
from kdcore.methods.base import Ablations, Method, MethodConfig, TaskKind, without_share
from kdcore.models import masked_lm
from kdcore.models.masked_lm import MaskedLM
from kdcore.models.word_neighbours import WordNeighbours, check_marks_words
from kdcore.records import Encoding, Needs, Paper, Setup, Stage, Step, TeacherAnswers, Term, want


class TextSmoothing(Method):
    """TextSmoothing: the student also learns from texts whose words are mixed with others that may stand there.

    loss     (1 - smoothed_share) hard + smoothed_share smoothed
    hard     cross-entropy of s(E x) with the gold label, mean over rows; for scores: (s - y)^2
    smoothed the hard term of s(E x~)
    x~       (1 - smoothing) x + smoothing q at each token but special ones and padding; E: the student's table of words
    q        words=masked-lm: softmax(u / temperature) over the `top` likeliest words; u: scores of the masked language
             model, which reads the row as it is
             words=neighbours: the `neighbours` nearest words in the first teacher's table, all alike
    shapes   x: one-hot words, q, u: [batch, tokens, vocabulary]; s: logits [batch, classes] (scores: [batch, 1]); y:
             [batch]
    teachers none is asked for an answer; the first lends its table of words to words=neighbours
    departs
      - sources: Of the paper only the abstract and the start of the introduction were read; of a later paper of its
        first author (2022), which does the same to augment few rows, the whole code. What the first paper trains on,
        its values, whether tokens are masked for the language model, and its results are unverified.
      - words: masked-lm is the paper's way; it needs a model that `masked_lm` names. neighbours is ours, for where
        there is none: it knows no context, and near words may mean the opposite.
      - smoothed_share: The later code takes two steps a batch, one on the text and one on the smoothed text; here both
        are in one step. 1 learns from smoothed texts alone.
      - smoothing, temperature: 0.5 and 1 are the later code's. smoothing weighs q; the weight of the word itself is the
        rest of it and what q gives it.
      - top: The later code mixes all words of the vocabulary. 64 is ours, scaled to sum 1; the size of the vocabulary
        takes all.
      - special tokens: [CLS], [SEP] and padding stay as they are; the later code smooths them too. With neighbours,
        stop words and pieces of words stay as well.
      - teacher: The paper puts this in the place of soft labels, so that no answer of a teacher is learned. The student
        reads the same vocabulary as the language model.
      - precision: Smoothed texts are read in float32, in a pass of their own with its own dropout.
      - cost: The predicted cost counts the second pass, and not the masked language model.
    """

    key = "text-smoothing"
    title = "TextSmoothing"
    family = "data"
    formula = r"""
    \mathcal{L} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{smoothed}} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}\bigl(z^{\mathrm S}(E^{\mathrm S} x)\bigr)_{y} \\
    \mathcal{L}_{\text{smoothed}} &= -\log \operatorname{softmax}\bigl(z^{\mathrm S}(E^{\mathrm S}
      \tilde{x})\bigr)_{y} \\
    \tilde{x}_{i} &= (1-\lambda)\,x_{i} + \lambda\,q_{i}, \qquad q_{i} =
      \operatorname{softmax}(u^{\mathrm T}_{i}/\tau)
    """
    papers = (
        Paper(
            key="wu2020smoothing",
            title="Distilling Knowledge from Pre-trained Language Models via Text Smoothing",
            authors="Xing Wu, Yibing Liu, Xiangyang Zhou, Dianhai Yu",
            venue="arXiv preprint",
            year=2020,
            arxiv="2005.03848",
        ),
    )
    needs = Needs(student=want("logits"), rerun=("student",), order=1)
    teachers = (0, 12)

    class Config(MethodConfig):
        words: Literal["neighbours", "masked-lm"] = Field(
            "neighbours",
            description="what words are mixed with: words near in the first teacher's embedding table (not the paper's "
            "way), or words that a masked language model expects",
        )
        masked_lm: str = Field(
            "",
            max_length=500,
            description="words=masked-lm: the model, folder:/path, hub:organisation/name or package:name",
        )
        smoothed_share: float = Field(
            0.5, ge=0, le=1, description="weight of the smoothed texts; the plain get the rest"
        )
        smoothing: float = Field(0.5, ge=0, le=1, description="share of a word that other words take")
        neighbours: int = Field(5, ge=1, le=100, description="words=neighbours: how many words near it")
        temperature: float = Field(
            1.0, ge=0.1, le=100, description="words=masked-lm: how far its distribution is flattened"
        )
        top: int = Field(64, ge=1, le=100000, description="words=masked-lm: how many of the likeliest words")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        if config.words == "masked-lm":
            self._found = masked_lm.find(config.masked_lm, setup.student)
        elif self._smooths:
            self._teacher = next(iter(setup.teachers))
            check_marks_words(setup, self._teacher, "options.words", "choose masked-lm")
        self._words: MaskedLM | WordNeighbours | None = None
        self.register_buffer("_here", torch.empty(0), persistent=False)  # tells the device before any batch is there

    @property
    def _smooths(self) -> bool:
        return self.config.smoothed_share > 0

    @classmethod
    def takes(cls, config: MethodConfig) -> tuple[int, int]:
        assert isinstance(config, cls.Config)
        return (1 if config.words == "neighbours" and config.smoothed_share else 0), cls.teachers[1]

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_share(config, "smoothed_share", above="smoothed")

    def stages(self) -> list[Stage]:
        needs = self.needs if self._smooths else Needs(want("logits"))
        return [Stage("distil", needs, self.terms, lr={"student": 1.0})]

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        return {}

    def before_stage(self, stage: str, teachers: TeacherAnswers) -> None:
        """Makes ready what says which words a word is mixed with."""
        if not self._smooths:
            return
        if self.config.words == "masked-lm":
            self._words = masked_lm.load(self._found, teachers.vocabulary()).to(self._here.device)
        else:
            table = teachers.word_embeddings(self._teacher)
            self._words = WordNeighbours(table, teachers.vocabulary(), self.config.neighbours)

    @property
    def alters_words(self) -> bool:
        return self._smooths

    def terms(self, step: Step) -> dict[str, Term]:
        labels, share = step.batch.labels, self.config.smoothed_share
        terms = {"hard": Term(hard_labels(step.student.logits, labels, step.regression), 1 - share)}
        if self._smooths:
            words = step.student.look_up(*self._mixtures(step.batch.encoding))
            terms["smoothed"] = Term(
                hard_labels(step.student.rerun(words=words).logits, labels, step.regression), share
            )
        return terms

    def _mixtures(self, encoding: Encoding) -> tuple[Tensor, Tensor]:
        """Words of each place, its own first, and their shares, which sum to 1: both [batch, tokens, words]."""
        others, likely, free = self._others(encoding)
        taken = self.config.smoothing * free.unsqueeze(-1).to(likely)
        own = encoding.input_ids.unsqueeze(-1)
        return torch.cat([own, others], -1), torch.cat([1 - taken, taken * likely], -1)

    def _others(self, encoding: Encoding) -> tuple[Tensor, Tensor, Tensor]:
        """Words that may stand in each place, their probabilities (both [batch, tokens, k]), and which places change
        (bool [batch, tokens])."""
        ids, words = encoding.input_ids, self._words
        assert words is not None, "before_stage makes the words ready"
        if isinstance(words, MaskedLM):
            special = words.special.to(ids.device)[ids]
            likeliest = words.likeliest(encoding, self.config.top, self.config.temperature)
            return *likeliest, encoding.attention_mask.bool() & ~special
        here = encoding.to("cpu")
        nearest = words.nearest(here.input_ids.flatten()).view(*ids.shape, words.count)
        alike = torch.full(nearest.shape, 1 / words.count)
        return nearest.to(ids.device), alike.to(ids.device), words.replaceable(here).to(ids.device)
