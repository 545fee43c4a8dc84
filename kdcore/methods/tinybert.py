"""TinyBERT's two-stage Transformer distillation, on task data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.fields import parse_list
from kdcore.losses.attention import score_mse
from kdcore.losses.hidden import token_mse
from kdcore.losses.precision import full
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods.base import Method, MethodConfig, rows_for_teacher
from kdcore.models import masked_lm
from kdcore.models.word_neighbours import WordNeighbours
from kdcore.models.word_proposals import WordProposals
from kdcore.records import Batch, ModelSize, Needs, Paper, Setup, Stage, Step, TeacherAnswers, Term, want

INTERMEDIATE, PREDICT = "intermediate", "predict"


class TinyBERT(Method):
    """TinyBERT: the student imitates the teacher's token states and attention scores, layer by layer, then its output.

    loss     intermediate stage: embedding_weight embedding + hidden_weight hidden + attention_weight attention
             predict stage: soft   tasks with scores: hard, or soft
    embedding (H_s0 W + b - H_t0)^2, mean over width, a row's valid tokens, then rows; H_0: the embedding output
    hidden   (H_sm W + b - H_tg(m))^2, the same mean, sum over the student's layers m = 1..M; W and b are learned
    attention (Z_sm - Z_tg(m))^2, mean over heads, a row's valid tokens times its valid tokens, then rows, sum over m;
             Z = Q K^T / sqrt(head width), before mask and softmax
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    hard     tasks with scores only: (s - y)^2 with the gold score y, mean over rows
    layers   g(m) = m N / M, or the nearest layer (spread); m + N - M (last, the paper's top); m (first, its bottom)
    shapes   H: [batch, tokens, width], any widths; Z: [batch, heads, tokens, tokens], equal numbers of heads; s, t:
             logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - corpus: The paper's student is first distilled on a large corpus, from the teacher before fine-tuning; here it
        starts from the run's initial weights, so the paper's figures are no target: without that part the authors lose
        3 points on average, without augmentation 7.
      - intermediate_share: They take 20 epochs for the intermediate stage (5 to 50 by task) and 3 for the other, a
        share of 0.87; here both share the run's steps, and 0.87 of a few epochs would leave too little to train the
        classifier, so each gets half.
      - learning rate: Theirs is 5e-5, then 1e-5 to 3e-5; here one rate serves both stages, and warms up in both.
      - layers: Where N / M is not whole the paper has no map; the nearest layers are ours.
      - projection: Their code has one W and b for the embedding and all layers, also where widths are equal, which is
        our default; the paper writes one W for the embedding and one for the layers. W starts as the identity where
        widths are equal, else at random so that states keep their scale; how theirs starts is unverified.
      - padding: Their code takes means over padding too: of a row of n tokens padded to L, its attention term is (n /
        L)^2 times ours, and more where padded tokens look at real ones; states of padding, which it compares as well,
        have no conversion. Without padding both agree.
      - soft: Their soft cross-entropy is divided by the number of classes C, so that ours has C times its gradient.
      - temperature: T = 1 is the paper's.
      - score_target: For scores their code learns the gold score, which is our default too.
      - dropout: Their scripts leave the teacher's on; ours do not.
      - classifier: Theirs reads relu of the pooled output; ours does not.
      - augment: Off by default. In the paper a masked language model, or GloVe for words of several pieces, proposes
        words. `word-neighbours` needs neither and is not the paper's way: words are the nearest in the teacher's own
        table of word embeddings, whatever the sentence, and only for words of one piece. `masked-lm` asks the model
        that `masked_lm` names.
      - masked_lm: Each word of one piece is masked by itself, in the whole row, pairs as pairs, and the K most probable
        tokens that begin a word are proposed, the word itself perhaps among them. The authors' code has the unmasked
        sentence follow the masked one, and drops other pieces from the K. In GloVe's place stands that model's table,
        at the mean of the word's pieces. One pass of a row for each of its words takes long: it is done when the row is
        first altered, and not in the predicted cost.
      - augment_copies: The paper adds 20 altered copies of each row. Here all methods take the same steps, so altered
        batches stand in the place of originals, one for one by default, and a row may come altered in one epoch and as
        it is in another.
      - augment_chance, augment_words: p and K are the paper's.
      - altered rows: The stop list is ours; both sentences of a pair change at once. Altered rows bypass the teacher
        cache, which costs time. Their gold labels may be wrong and are never used: as in the paper, the predict stage
        sees no altered rows where it learns gold scores.
    """

    key = "tinybert"
    title = "TinyBERT"
    paper = Paper(
        key="jiao2020tinybert",
        title="TinyBERT: Distilling BERT for Natural Language Understanding",
        authors="Xiaoqi Jiao, Yichun Yin, Lifeng Shang, Xin Jiang, Xiao Chen, Linlin Li, Fang Wang, Qun Liu",
        venue="Findings of EMNLP",
        year=2020,
        arxiv="1909.10351",
        family="attention",
    )
    needs = Needs(student=want("logits", "hidden", "scores"), teacher=want("logits", "hidden", "scores"))

    class Config(MethodConfig):
        intermediate_share: float = Field(
            0.5, ge=0, le=0.95, description="share of the steps for states and scores; the rest trains the prediction"
        )
        layers: Literal["spread", "uniform", "last", "first"] | tuple[int, ...] = Field(
            "spread", description="teacher layers for the student's: a rule (uniform asks for a whole N / M) or a list"
        )
        embedding_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the embedding output")
        hidden_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the layers' token states")
        attention_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the raw attention scores")
        projection: Literal["shared", "per-layer"] = Field(
            "shared", description="W, b from the student's width to the teacher's: one for all layers, or one for each"
        )
        temperature: float = Field(1.0, ge=0.1, le=100, description="T: how far both distributions are flattened")
        score_target: Literal["gold", "teacher"] = Field(
            "gold", description="tasks with scores: the predict stage learns the gold scores, or the teacher's"
        )
        augment: Literal["none", "word-neighbours", "masked-lm"] = Field(
            "none",
            description="alter rows: words near in the teacher's embedding table (not the paper's way), or words that "
            "a masked language model proposes (slow on a CPU: it reads a row once for each of its words)",
        )
        masked_lm: str = Field(
            "",
            max_length=500,
            description="augment masked-lm: the model, folder:/path, hub:organisation/name or package:name",
        )
        augment_copies: int = Field(1, ge=1, le=100, description="altered batches for each original one")
        augment_chance: float = Field(0.4, ge=0, le=1, description="p: chance that a word of an altered row changes")
        augment_words: int = Field(15, ge=1, le=100, description="K: words proposed, of which one is drawn")

        _as_list = field_validator("layers", mode="before")(parse_list)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        ((self._teacher, teacher),) = setup.teachers.items()
        self.map = self.layer_map(config, setup.student, teacher)
        self._states = {m: n for m, n in self.map.items() if m == 0 or config.hidden_weight}
        self._scores = {m: n for m, n in self.map.items() if m > 0 and config.attention_weight}
        if self._scores:
            _same_heads(setup.student, teacher, self._teacher)
        if config.augment == "word-neighbours":
            _marks_words(teacher, self._teacher)
        if config.augment == "masked-lm":
            self._found = masked_lm.find(config.masked_lm, setup.student)
        self.projection: Projection | None = None
        if self._states:
            places = len(self._states) if config.projection == "per-layer" else 1
            self.projection = Projection(places, setup.student.width, teacher.width, setup.seed)
        self._words: WordNeighbours | WordProposals | None = None
        self.register_buffer("_here", torch.empty(0), persistent=False)  # tells the device before any batch is there
        self._steps = 0

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> dict[int, int]:
        """Student layer -> teacher layer, 0 -> 0 for the embedding output; empty without an intermediate stage.

        Raises:
            UserError: depths that the rule does not fit, a list of the wrong length, a layer the teacher does not have.
        """
        assert isinstance(config, cls.Config)
        if not config.intermediate_share:
            return {}
        mapped = {0: 0} if config.embedding_weight else {}
        if config.hidden_weight or config.attention_weight:
            mapped |= _layers(config.layers, student.layers, teacher.layers)
        return mapped

    # --- the two stages ---------------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        share = self.config.intermediate_share if self.map else 0.0
        answers = Needs(want("logits"), {} if self._learns_gold() else want("logits"))
        predict = Stage(PREDICT, answers, self.terms, 1 - share, lr={"student": 1.0})
        if not self.map:
            return [predict]
        needs = Needs(_wanted(self._states, self._scores), _wanted(self._states.values(), self._scores.values()))
        first = Stage(INTERMEDIATE, needs, self.intermediate, share, schedule="constant", judge="loss")
        return [first, predict]

    def intermediate(self, step: Step) -> dict[str, Term]:
        """The intermediate stage's terms; they leave pooler and classifier as they are."""
        terms = {}
        if self.projection is not None:
            terms = self._compare_states(self.projection, step)
        if self._scores:
            ours = [rows_for_teacher(step, step.student.scores[m]) for m in self._scores]
            theirs = [step.teacher.scores[n] for n in self._scores.values()]
            terms["attention"] = Term(score_mse(ours, theirs, step.teacher.mask), self.config.attention_weight)
        return terms

    def _compare_states(self, projection: Projection, step: Step) -> dict[str, Term]:
        """The terms of embedding output and layers, all projected and compared as one tensor."""
        ours = torch.stack([rows_for_teacher(step, step.student.hidden[m]) for m in self._states])
        theirs = torch.stack([step.teacher.hidden[n] for n in self._states.values()])
        apart = token_mse(projection(full(ours)), theirs, step.teacher.mask)
        embeddings = int(0 in self._states)
        terms = {
            "embedding": Term(apart[:embeddings].sum(), self.config.embedding_weight),
            "hidden": Term(apart[embeddings:].sum(), self.config.hidden_weight),
        }
        return {name: term for name, term in terms.items() if term.weight}

    def terms(self, step: Step) -> dict[str, Term]:
        """The predict stage's term."""
        logits = step.student.logits
        if self._learns_gold():
            return {"hard": Term(hard_labels(logits, step.batch.labels, step.regression))}
        temperature, regression = self.config.temperature, step.regression
        soft = teacher_signal(rows_for_teacher(step, logits), step.teacher.logits, temperature, regression)
        return {"soft": Term(soft)}

    def _learns_gold(self) -> bool:
        """Whether the predict stage learns gold scores, which it needs no teacher for."""
        return self.setup.kind == "regression" and self.config.score_target == "gold"

    # --- altered rows -----------------------------------------------------------------------------------------------

    def before_stage(self, stage: str, teachers: TeacherAnswers) -> None:
        """Makes ready what proposes words, where the stage takes altered rows."""
        if self.config.augment == "none" or (stage == PREDICT and self._learns_gold()):
            self._words = None
        elif self._words is None:
            self._words = self._proposer(teachers)

    def _proposer(self, teachers: TeacherAnswers) -> WordNeighbours | WordProposals:
        vocabulary, count = teachers.vocabulary(), self.config.augment_words
        if self.config.augment == "masked-lm":
            return WordProposals(masked_lm.load(self._found, vocabulary).to(self._here.device), count)
        return WordNeighbours(teachers.word_embeddings(self._teacher), vocabulary, count)

    def stream(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """An original batch, then `augment_copies` altered ones, in turn over the whole run.

        Which it is and what it draws follow from the seed and the batch's number, so that a resumed run goes on alike.
        """
        if self._words is None:
            return batches
        words, turn = self._words, self.config.augment_copies + 1
        numbered = enumerate(batches, start=self._steps)
        return (self._altered(batch, words, number) if number % turn else batch for number, batch in numbered)

    @property
    def alters_words(self) -> bool:
        return self._words is not None

    def _altered(self, batch: Batch, words: WordNeighbours | WordProposals, number: int) -> Batch:
        """Rows with some words replaced; those that did change get negative ids."""
        rng = np.random.default_rng((self.setup.seed, number))
        encoding = words.replaced(batch.encoding, self.config.augment_chance, rng)
        changed = (encoding.input_ids != batch.encoding.input_ids).any(-1)
        return replace(batch, ids=torch.where(changed, -1 - batch.ids, batch.ids), encodings={"": encoding})

    def after_step(self, step: Step) -> None:
        self._steps += 1

    def history(self) -> dict[str, object]:
        return {"steps": self._steps}

    def restore_history(self, history: Mapping[str, object]) -> None:
        steps = history["steps"]
        assert isinstance(steps, int)
        self._steps = steps


class Projection(nn.Module):
    """x W + b for states of several places (embedding output, layers): one W and b for all of them, or one for each.

    W is the identity where widths are equal, so that equal models have no loss; else random, and states keep their
    scale. b is zero.

    Args:
        places: how many W and b there are. student, teacher: widths. seed: of a random W.
    """

    def __init__(self, places: int, student: int, teacher: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        random = torch.randn(places, student, teacher, generator=generator) / math.sqrt(student)
        same = torch.eye(student).repeat(places, 1, 1)
        self.weight = nn.Parameter(same if student == teacher else random)
        self.bias = nn.Parameter(torch.zeros(places, 1, teacher))

    def forward(self, states: Tensor) -> Tensor:
        """[places, batch, tokens, student width] -> [places, batch, tokens, teacher width]."""
        result: Tensor = (states.flatten(1, 2) @ self.weight + self.bias).unflatten(1, states.shape[1:3])  # type: ignore[no-untyped-call]
        return result


def _layers(chosen: str | tuple[int, ...], student: int, teacher: int) -> dict[int, int]:
    if isinstance(chosen, str):
        return layer_map.RULES[chosen](student, teacher)
    if len(chosen) != student:
        raise UserError(
            "options.layers",
            f"lists {len(chosen)} teacher layers for a student of {student}",
            f"list {student}, or choose spread, last or first",
        )
    if 0 in chosen:
        raise UserError(
            "options.layers", "layer 0 is the embedding output, which has a term of its own", "list layers from 1"
        )
    return layer_map.explicit(chosen, teacher)


def _wanted(hidden: Iterable[int], scores: Iterable[int]) -> dict[str, tuple[int, ...]]:
    layers = {"hidden": sorted(set(hidden)), "scores": sorted(set(scores))}
    return want(**{name: chosen for name, chosen in layers.items() if chosen})


def _same_heads(student: ModelSize, teacher: ModelSize, name: str) -> None:
    if student.heads != teacher.heads:
        raise UserError(
            "student.heads",
            f"TinyBERT compares attention head by head, but the student's {student.heads} heads differ from "
            f"{teacher.heads} of teacher {name}",
            f"give the student {teacher.heads} heads, or set attention_weight to 0",
        )


def _marks_words(teacher: ModelSize, name: str) -> None:
    if teacher.model_type == "roberta":
        raise UserError(
            "options.augment",
            f"the vocabulary of teacher {name} does not mark the pieces that continue a word",
            "choose none, or a teacher of the BERT kind",
        )
