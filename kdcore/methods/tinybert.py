"""TinyBERT's two-stage Transformer distillation, on task data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.fields import NOT_TUNED, parse_list
from kdcore.layer_map import LayerMap, pairs
from kdcore.losses.attention import score_mse
from kdcore.losses.hidden import token_mse
from kdcore.losses.precision import full
from kdcore.losses.relation import attention_divergence
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    rows_for_teacher,
    same_heads,
    temperature_field,
    without_stage,
)
from kdcore.models import masked_lm
from kdcore.models.projections import StackedLinear
from kdcore.models.word_neighbours import WordNeighbours, check_marks_words
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
             Z = Q K^T / sqrt(head width), before mask and softmax (attention_loss=scores)
             probabilities: the same of P = softmax(Z) over the valid tokens; kl: KL(P_tg(m) || P_sm) of what each token
             attends to, mean over heads, a row's valid tokens, then rows, sum over m
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    hard     tasks with scores only: (s - y)^2 with the gold score y, mean over rows
    layers   g(m) = m N / M, or the nearest layer (spread); m + N - M (last, the paper's top); m (first, its bottom); M
             different layers drawn with layers_seed (random); or the mean over the m-th of M consecutive blocks (mean)
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
      - attention_loss: kl, and the maps random and mean, come from the second paper, a study of TinyBERT's choices. Of
        it the abstract, the start of the introduction and a summary were read. What they are exactly is ours and
        unverified: the direction of the KL and its means without padding. probabilities is ours too.
      - layers_seed: A random map that rises and is drawn once for a run is ours and unverified.
      - mean map: The target is the mean of the block's states and, for probabilities and kl, of its attention, so that
        it is still a distribution; for scores that of the scores. Both are ours.
      - kl: Its values are far smaller than those of scores, so that attention_weight has another meaning.
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
    family = "attention"
    formula = r"""
    \mathcal{L}_{\text{intermediate}} &= \lambda_{\text{emb}}\,\mathcal{L}_{\text{embedding}} +
      \lambda_{\text{hid}}\,\mathcal{L}_{\text{hidden}} + \lambda_{\text{att}}\,\mathcal{L}_{\text{attention}} \\
    \mathcal{L}_{\text{embedding}} &= \frac{1}{n\,d} \left\| H^{\mathrm S}_{0} W + b - H^{\mathrm T}_{0}
      \right\|_F^2 \\
    \mathcal{L}_{\text{hidden}} &= \sum_{m=1}^{M} \frac{1}{n\,d} \left\| H^{\mathrm S}_{m} W + b - H^{\mathrm
      T}_{g(m)} \right\|_F^2 \\
    \mathcal{L}_{\text{attention}} &= \sum_{m=1}^{M} \frac{1}{A\,n^2} \sum_{a=1}^{A} \left\| Z^{\mathrm
      S}_{m,a} - Z^{\mathrm T}_{g(m),a} \right\|_F^2, \qquad Z = \frac{Q K^{\top}}{\sqrt{d_k}} \\
    \mathcal{L}_{\text{predict}} = \mathcal{L}_{\text{soft}} &= T^2\,
      \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\, \operatorname{softmax}(z^{\mathrm
      S}/T)\bigr)
    """
    papers = (
        Paper(
            key="jiao2020tinybert",
            title="TinyBERT: Distilling BERT for Natural Language Understanding",
            authors="Xiaoqi Jiao, Yichun Yin, Lifeng Shang, Xin Jiang, Xiao Chen, Linlin Li, Fang Wang, Qun Liu",
            venue="Findings of EMNLP",
            year=2020,
            arxiv="1909.10351",
        ),
        Paper(
            key="dankar2023improving",
            title="Improving Knowledge Distillation for BERT Models: Loss Functions, Mapping Methods, and Weight "
            "Tuning",
            authors="Apoorv Dankar, Adeem Jassani, Kartikaeya Kumar",
            venue="arXiv",
            year=2023,
            arxiv="2308.13958",
        ),
    )
    needs = Needs(
        student=want("logits", "hidden", "scores", "attention"), teacher=want("logits", "hidden", "scores", "attention")
    )

    class Config(MethodConfig):
        intermediate_share: float = Field(
            0.5, ge=0, le=0.95, description="share of the steps for states and scores; the rest trains the prediction"
        )
        layers: Literal["spread", "uniform", "last", "first", "random", "mean"] | tuple[int, ...] = Field(
            "spread", description="teacher layers for the student's: a rule (uniform asks for a whole N / M) or a list"
        )
        layers_seed: int = Field(0, ge=0, le=2**31 - 1, description="layers=random: which layers are drawn")
        embedding_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the embedding output")
        hidden_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the layers' token states")
        attention_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the attention")
        attention_loss: Literal["scores", "probabilities", "kl"] = Field(
            "scores", description="what is compared of attention: raw scores, probabilities, or their divergence"
        )
        projection: Literal["shared", "per-layer"] = Field(
            "shared", description="W, b from the student's width to the teacher's: one for all layers, or one for each"
        )
        temperature: float = temperature_field(1.0)
        score_target: Literal["gold", "teacher"] = Field(
            "gold", description="tasks with scores: the predict stage learns the gold scores, or the teacher's"
        )
        augment: Literal["none", "word-neighbours", "masked-lm"] = Field(
            "none",
            description="alter rows: words near in the teacher's embedding table (not the paper's way), or words that "
            "a masked language model proposes (slow on a CPU: it reads a row once for each of its words)",
            json_schema_extra=NOT_TUNED,
        )
        masked_lm: str = Field(
            "",
            max_length=500,
            description="augment masked-lm: the model, folder:/path, hub:organisation/name or package:name",
        )
        augment_copies: int = Field(1, ge=1, le=100, description="altered batches for each original one")
        augment_chance: float = Field(
            0.4, ge=0, le=1, description="p: chance that a word of an altered row changes",
            json_schema_extra=NOT_TUNED,
        )  # fmt: skip
        augment_words: int = Field(15, ge=1, le=100, description="K: words proposed, of which one is drawn")

        _as_list = field_validator("layers", mode="before")(parse_list)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        ((self._teacher, teacher),) = setup.teachers.items()
        self.map = self.layer_map(config, setup.student, teacher)
        self._states = {m: several for m, several in self.map.items() if m == 0 or config.hidden_weight}
        self._attention = {m: several for m, several in self.map.items() if m > 0 and config.attention_weight}
        if self._attention:
            same_heads(setup, "TinyBERT compares attention head by head", "set attention_weight to 0")
        if config.augment == "word-neighbours":
            check_marks_words(setup, self._teacher, "options.augment", "choose none")
        if config.augment == "masked-lm":
            self._found = masked_lm.find(config.masked_lm, setup.student)
        self.projection: StackedLinear | None = None
        if self._states:
            places = len(self._states) if config.projection == "per-layer" else 1
            self.projection = StackedLinear(places, setup.student.width, teacher.width, setup.seed)
        self._words: WordNeighbours | WordProposals | None = None
        self.register_buffer("_here", torch.empty(0), persistent=False)  # tells the device before any batch is there
        self._steps = 0

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """Student layer -> teacher layers, 0 -> 0 for the embedding output; empty without an intermediate stage.

        Raises:
            UserError: depths that the rule does not fit, a list of the wrong length, a layer the teacher does not have.
        """
        assert isinstance(config, cls.Config)
        if not config.intermediate_share:
            return {}
        mapped: LayerMap = {0: (0,)} if config.embedding_weight else {}
        if config.hidden_weight or config.attention_weight:
            mapped |= _layers(config, student.layers, teacher.layers)
        return mapped

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        """States, attention and the soft targets; gold scores have their stage to themselves."""
        return True

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        weights = {name: f"{name}_weight" for name in ("embedding", "hidden", "attention")}
        without = without_stage(config, "intermediate", "intermediate_share", **weights)
        if config.augment != "none":
            without["altered rows"] = {"augment": "none"}
        return without

    # --- the two stages ---------------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        share = self.config.intermediate_share if self.map else 0.0
        answers = Needs(want("logits"), {} if self._learns_gold() else want("logits"))
        altered, gold = self.config.augment != "none", self._learns_gold()
        predict = Stage(
            PREDICT, answers, self.terms, 1 - share, lr={"student": 1.0}, labelled=gold, live=altered and not gold
        )
        if not self.map:
            return [predict]
        needs = Needs(
            self._captures(self._states, self._attention),
            self._captures(*((n for _, n in pairs(mapped)) for mapped in (self._states, self._attention))),
        )
        first = Stage(INTERMEDIATE, needs, self.intermediate, share, schedule="constant", judge="loss", live=altered)
        return [first, predict]

    def intermediate(self, step: Step) -> dict[str, Term]:
        """The intermediate stage's terms; they leave pooler and classifier as they are."""
        terms = {}
        if self.projection is not None:
            terms = self._compare_states(self.projection, step)
        if self._attention:
            student, teacher = getattr(step.student, self._maps), getattr(step.teacher, self._maps)
            ours = [rows_for_teacher(step, student[m]) for m in self._attention]
            theirs = [_mean([teacher[n] for n in several]) for several in self._attention.values()]
            if self.config.attention_loss == "kl":
                both, mask = zip(ours, theirs, strict=True), step.teacher.mask
                attention = torch.stack([attention_divergence(*pair, mask) for pair in both]).sum()
            else:
                attention = score_mse(ours, theirs, step.teacher.mask)
            terms["attention"] = Term(attention, self.config.attention_weight)
        return terms

    @property
    def _maps(self) -> str:
        """The tensor that is compared of attention."""
        return "scores" if self.config.attention_loss == "scores" else "attention"

    def _captures(self, hidden: Iterable[int], attention: Iterable[int]) -> dict[str, tuple[int, ...]]:
        layers = {"hidden": sorted(set(hidden)), self._maps: sorted(set(attention))}
        return want(**{name: chosen for name, chosen in layers.items() if chosen})

    def _compare_states(self, projection: StackedLinear, step: Step) -> dict[str, Term]:
        """The terms of embedding output and layers, all projected and compared as one tensor."""
        ours = torch.stack([rows_for_teacher(step, step.student.hidden[m]) for m in self._states])
        theirs = torch.stack([_mean([step.teacher.hidden[n] for n in several]) for several in self._states.values()])
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
        return (self._augment(batch, words, number) if number % turn else batch for number, batch in numbered)

    @property
    def alters_words(self) -> bool:
        return self._words is not None

    def _augment(self, batch: Batch, words: WordNeighbours | WordProposals, number: int) -> Batch:
        """Rows with some words replaced; those that did change get negative ids."""
        rng = np.random.default_rng((self.setup.seed, number))
        encoding = words.replace_words(batch.encoding, self.config.augment_chance, rng)
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


def _layers(config: TinyBERT.Config, student: int, teacher: int) -> LayerMap:
    if config.layers == "mean":
        return layer_map.blocks(student, teacher)
    if config.layers == "random":
        return layer_map.alone(layer_map.random_layers(student, teacher, config.layers_seed))
    if not isinstance(config.layers, str) and 0 in config.layers:
        raise UserError(
            "options.layers", "layer 0 is the embedding output, which has a term of its own", "list layers from 1"
        )
    return layer_map.alone(layer_map.from_setting(config.layers, student, teacher))


def _mean(layers: Sequence[Tensor]) -> Tensor:
    """The mean of a block's tensors in float32; a single one as it is."""
    return layers[0] if len(layers) == 1 else torch.stack([full(layer) for layer in layers]).mean(0)
