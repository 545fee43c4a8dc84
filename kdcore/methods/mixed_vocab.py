"""Mixed-vocabulary training: the words of a student with a small vocabulary are learned among the teacher's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcore.errors import UserError
from kdcore.losses.precision import full
from kdcore.losses.vocabulary import IGNORE_INDEX
from kdcore.methods.base import (
    Ablations,
    Build,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    hard_and_soft,
    temperature_field,
    without_share,
)
from kdcore.models.anatomy import anatomy
from kdcore.models.mixed_words import MixedText, draws, hide, mix, targets, with_words
from kdcore.models.projections import linear
from kdcore.models.special_tokens import SpecialTokens, special_tokens
from kdcore.records import Encoding, Needs, Paper, Setup, Stage, Step, TeacherAnswers, Term, want


class MixedVocabulary(Method):
    """Mixed-vocabulary training: texts cut by both vocabularies bring the student's words into the teacher's space.

    loss     stage mixed: teacher_words + student_words;  stage masked: masked;  stage distil: (1 - alpha) hard + alpha
             soft
    teacher_words  -log softmax(E_t g(h))_x at the hidden pieces of words that the teacher's tokenizer cut
    student_words  -log softmax((W E_s + b) g(h))_x at those that the student's cut; together the mean over a row's
             hidden pieces, then over rows
    masked   -log softmax(E_s g_s(h_s))_x at the hidden pieces of the student's own text, the same mean
    hard     cross-entropy of s with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2; the teacher reads the row
             by its own tokenizer
    h        a copy of the teacher on the mixed text: E_t[x] for a teacher's piece, W E_s[x] + b for a student's; each
             word is cut by the student's tokenizer with the chance student_share, and all its pieces are of one
             vocabulary
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]; E_t: [V_t, d_t]; E_s: [V_s, d_s]; W: [d_t,
             d_s]; h: [batch, tokens, d_t]; h_s: [batch, tokens, d_s]; g, g_s: a linear, GELU and LayerNorm
    departs
      - sources: Of the 2021 paper only the abstract, the start of the introduction and summaries were read; of the 2019
        version, another method in part, a reading note. The chance of a word, which weights of the teacher learn, how
        the encoder of the second stage starts, whether output and input words are tied, whether next sentences are
        predicted, width, steps and rates are unverified.
      - data: The paper's two masked stages read Wikipedia and books; these read the task's training texts, so a
        student is far from a pre-trained one and no result of the paper is a target.
      - teacher: A copy of the fine-tuned teacher learns in the mixed stage; the paper's is a pre-trained BERT-large.
        The copy is let go afterwards; the teacher whose answers are learned never changes.
      - distil: The paper fine-tunes the student on gold labels; learning from the teacher's answers as well is ours.
      - words: A word is what stands between white space, with its punctuation. Of a row that the student's tokenizer
        has to cut, the lost words stay the teacher's.
      - student_share: 0.5 is ours; the paper's chance is not known.
      - output words: Tied to the input's, as in BERT: the student's through W and b. The card's two output tables are
        separate from the input.
      - special tokens: Those of the mixed text are the teacher's; a hidden piece is the [MASK] of the vocabulary that
        cut its word. Every hidden piece becomes [MASK], and a row hides at least one.
      - initial weights: init=teacher or base fills the student's layers, and its words as the source's tokenizer cuts
        them, before the first stage; init=random is nearer to the paper.
      - student.vocabulary: Left empty the student has the teacher's words in a table of its own.
      - dropout: The copy and the masked words of the first stage are without.
      - cost: The predicted cost does not count the copy's training, which is about that of the teacher for mixed_share
        of the steps.
    """

    key = "mixed-vocab"
    title = "Mixed-vocabulary training"
    family = "form"
    formula = r"""
    \mathcal{L}_{\text{mixed}} &= -\frac{1}{|M|} \sum_{i \in M} \log \operatorname{softmax}\bigl(O^{v(i)}
      g(h_i)\bigr)_{x_i}, \qquad O^{\mathrm T} = E^{\mathrm T}, \quad O^{\mathrm S} = E^{\mathrm S} W^{\top} + b \\
    \mathcal{L}_{\text{masked}} &= -\frac{1}{|M|} \sum_{i \in M} \log \operatorname{softmax}\bigl(E^{\mathrm S}
      g^{\mathrm S}(h^{\mathrm S}_i)\bigr)_{x_i} \\
    \mathcal{L}_{\text{distil}} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}}
    """
    papers = (
        Paper(
            key="zhao2021extremely",
            title="Extremely Small BERT Models from Mixed-Vocabulary Training",
            authors="Sanqiang Zhao, Raghav Gupta, Yang Song, Denny Zhou",
            venue="EACL",
            year=2021,
            arxiv="1909.11687",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits"), rerun=("student",), order=1)
    unlabelled = ("alpha", "mixed_share", "masked_share")

    class Config(MethodConfig):
        mixed_share: float = Field(0.3, ge=0, le=0.9, description="share of the steps for the mixed texts")
        masked_share: float = Field(
            0.3,
            ge=0,
            le=0.9,
            description="share of the steps for masked words of the student alone; the task gets the rest",
        )
        student_share: float = Field(
            0.5, gt=0, le=1, description="chance of a word of a mixed text to be cut by the student's tokenizer"
        )
        masked_chance: float = Field(0.15, gt=0, le=0.9, description="chance of a piece to be hidden")
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(2.0)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        if config.mixed_share + config.masked_share >= 1:
            raise UserError(
                "options.masked_share", "mixed_share and masked_share leave the task no steps", "lower one of them"
            )
        ((self._teacher, size),) = setup.teachers.items()
        if size.embedding_width is not None:
            raise UserError(
                f"teachers.{self._teacher}",
                f"the words of {self._teacher} are narrower than its layers, so they cannot be asked for by its states",
                "choose a teacher whose embeddings are as wide as its layers",
            )
        self.affine = linear(setup.student.width, size.width, setup.seed)
        self.ask_teacher = Question(size.width, size.vocabulary, setup.seed + 1)
        self.ask_mixed = Question(size.width, setup.student.vocabulary, setup.seed + 2)
        self.ask_student = Question(setup.student.width, setup.student.vocabulary, setup.seed + 3)
        self.copy: nn.Module | None = None
        self._ours: SpecialTokens | None = None
        self._theirs: SpecialTokens | None = None

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        shares = {"stage mixed": "mixed_share", "stage masked": "masked_share"}
        return {part: {share: 0.0} for part, share in shares.items() if getattr(config, share)} | without_share(config)

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        """The run's student. The teacher's copy, which reads mixed texts, is a module of the method: no one else runs
        it."""
        if self.copy is None and self.config.mixed_share:
            self.copy = build(of=self._teacher)
            for module in self.copy.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
        return {"student": build()}

    def stages(self) -> list[Stage]:
        config = self.config
        words = Needs(rerun=("student",), order=1, passes=0, gradients=0)
        again = Needs(rerun=("student",), order=1, gradients=0)
        answers = Needs(student=want("logits"), teacher=want("logits"))
        stages = [
            Stage("mixed", words, self.mixed_terms, config.mixed_share, teachers=(), judge="loss"),
            Stage("masked", again, self.masked_terms, config.masked_share, teachers=(), judge="loss"),
            Stage("distil", answers, self.terms, 1 - config.mixed_share - config.masked_share,
                  lr={"student": 1.0}, labelled=not config.alpha),
        ]  # fmt: skip
        return [stage for stage in stages if stage.share]

    @property
    def alters_words(self) -> bool:
        """[MASK] is in no row."""
        return bool(self.config.mixed_share or self.config.masked_share)

    def before_stage(self, stage: str, teachers: TeacherAnswers) -> None:
        """Learns which ids are special in both vocabularies."""
        self._ours, self._theirs = (
            special_tokens(teachers.vocabulary()),
            special_tokens(teachers.vocabulary(self._teacher)),
        )

    def terms(self, step: Step) -> dict[str, Term]:
        return hard_and_soft(step, self.config.alpha, self.config.temperature)

    # --- the mixed stage --------------------------------------------------------------------------------------------

    def mixed_terms(self, step: Step) -> dict[str, Term]:
        """Hidden pieces of a text in both vocabularies, asked of the teacher's copy."""
        assert self._ours is not None and self._theirs is not None, "before_stage reads the vocabularies"
        rngs = draws(self.setup.seed, step.batch.ids, step.step)
        large = with_words(step.batch.encodings.get(self._teacher, step.batch.encoding), self._theirs.ids)
        small = with_words(step.batch.encoding, self._ours.ids)
        text = mix(large, small, self.config.student_share, rngs, self.setup.teachers[self._teacher].longest)
        where = hide(text.words, self.config.masked_chance, rngs)
        states = self.states(step, text, where)
        every = step.student.look_up(torch.arange(self._ours.size, device=states.device))
        theirs = self.ask_teacher(states, self._table(), targets(text.ids, where & ~text.small), where)
        ours = self.ask_mixed(states, self.affine(full(every)), targets(text.ids, where & text.small), where)
        return {"teacher_words": Term(theirs), "student_words": Term(ours)}

    def states(self, step: Step, text: MixedText, where: Tensor) -> Tensor:
        """The last states of the teacher's copy, [batch, tokens, d_t], with the pieces of `where` hidden."""
        assert self._ours is not None and self._theirs is not None and self.copy is not None
        masks = torch.where(text.small, self._ours.mask, self._theirs.mask)
        ids = torch.where(where, masks, text.ids)
        small = text.small.unsqueeze(-1)
        ours = self.affine(full(step.student.look_up(torch.where(text.small, ids, 0))))
        theirs = anatomy(self.copy).word_embeddings(torch.where(text.small, 0, ids))
        return encode(self.copy, torch.where(small, ours, theirs), text)

    def _table(self) -> Tensor:
        assert self.copy is not None
        table: Any = anatomy(self.copy).word_embeddings
        weight: Tensor = table.weight
        return weight

    # --- the masked stage -------------------------------------------------------------------------------------------

    def masked_terms(self, step: Step) -> dict[str, Term]:
        """Hidden pieces of the student's own text."""
        assert self._ours is not None, "before_stage reads the vocabulary"
        encoding: Encoding = with_words(step.batch.encoding, self._ours.ids)
        assert encoding.words is not None
        where = hide(encoding.words, self.config.masked_chance, draws(self.setup.seed, step.batch.ids, step.step))
        shown = torch.where(where, self._ours.mask, encoding.input_ids)
        again = step.student.rerun(words=step.student.look_up(shown), whole=True)
        states = again.hidden[self.setup.student.layers]
        every = step.student.look_up(torch.arange(self._ours.size, device=states.device))
        return {"masked": Term(self.ask_student(full(states), full(every), targets(encoding.input_ids, where), where))}


class Question(nn.Module):
    """Which word is hidden here: scores = table · g(state) + bias, g a linear, GELU and LayerNorm, as BERT has it."""

    def __init__(self, width: int, words: int, seed: int) -> None:
        super().__init__()
        self.dense = linear(width, width, seed)
        self.layer_norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, states: Tensor, table: Tensor, words: Tensor, hidden: Tensor) -> Tensor:
        """The cross-entropy with the hidden words, each divided by how many pieces are hidden in its row, over rows.

        Args:
            states: [batch, tokens, width]. table: [words, width]. words: int64 [batch, tokens], those that are asked
                here, else IGNORE_INDEX. hidden: bool [batch, tokens], all that are hidden, also those asked elsewhere.
        """
        place = words != IGNORE_INDEX
        share = place / hidden.sum(1, keepdim=True).clamp(min=1)
        scores = self.layer_norm(F.gelu(self.dense(states[place]))) @ table.T + self.bias
        each = F.cross_entropy(scores, words[place], reduction="none")
        return (each * share[place]).sum() / len(words)


def encode(model: nn.Module, words: Tensor, text: MixedText) -> Tensor:
    """The last states of an encoder that starts from word embeddings, [batch, tokens, width]."""
    whole: Any = model
    inputs = {"inputs_embeds": words, "attention_mask": text.mask}
    if anatomy(model).token_types > 1:
        inputs["token_type_ids"] = text.types
    states: Tensor = getattr(whole, whole.base_model_prefix)(**inputs)[0]
    return states
