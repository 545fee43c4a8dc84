"""Learning to augment: rows of other domains rewritten towards a scarce one, and a selector that learns which help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from kdcore.errors import UserError
from kdcore.losses.hidden import content_means
from kdcore.losses.precision import full
from kdcore.losses.soft_targets import soft_rows, uncertainty
from kdcore.losses.vocabulary import IGNORE_INDEX, hidden_places
from kdcore.methods.base import Ablations, Build, Method, MethodConfig, TaskKind, rows_for_teacher, temperature_field
from kdcore.methods.domains import target_domain
from kdcore.methods.row_selector import RowSelector
from kdcore.methods.running_mean import RunningMean
from kdcore.models import masked_lm
from kdcore.models.mixed_words import draws, hide, targets, with_words
from kdcore.models.projections import new_linear
from kdcore.models.special_tokens import SpecialTokens, special_tokens
from kdcore.models.word_model import WordModel, new_head
from kdcore.records import Batch, Needs, Paper, Setup, Stage, Step, TeacherAnswers, Term, want

AUGMENTER, EPISODES, DISTIL = "augmenter", "episodes", "distil"


@dataclass(frozen=True)
class Choice:
    """What one part of a batch adds to an episode.

    score: `RowSelector.score`; None: nothing was drawn. chosen, rows: scalars, altered rows that count, and all of
        them.
    """

    score: Tensor | None
    chosen: Tensor
    rows: Tensor


class LearningToAugment(Method):
    """L2A-style: rows of other domains are rewritten towards a scarce one, and a selector learns which of them help.

    loss     stage augmenter: words + domain;  stages episodes, distil: soft + augmented
    words    -log softmax(E head(h))_x at the hidden tokens of the target's rows, mean over a row's hidden tokens; other
             rows count as 0; mean over rows
    domain   cross-entropy of d(mean of h but the first token's) with whether the row is the target's, mean over rows
    soft     T^2 KL(softmax(t / T) || softmax(s / T)) of the target's rows; others count as 0; mean over rows
    augmented  a times the same of rows of other domains as the augmenter rewrote them; the target's count as 0; mean
             over rows
    rewritten  in each of `rounds` rounds each token is hidden with the chance masked_share, and all that are hidden are
             drawn anew from the augmenter's softmax
    choice   a ~ Bernoulli(p(x)) in the stage episodes; 1 where p(x) >= threshold in the stage distil; p(x) =
             sigmoid(w relu(W x + b) + c)
    state    x = [softmax(t); entropy of it / ln classes; T^2 KL of the row; sigmoid(d)]
    selector after each episode it moves along (reward - baseline) times the mean over the episode's altered rows of the
             gradient of log(chance of a); reward: minus the cross-entropy on the target's rows of `select`; baseline:
             mean of the rewards before
    shapes   s, t: logits [batch, classes]; h: last states of a copy of the teacher, [batch, tokens, width]; E: its
             words, [vocabulary, width]; a, p, d: [batch]; x: [batch, classes + 3]
    departs
      - sources: Of the paper two abstracts and the start of the introduction were read, and no code was found: that
        rows of a source domain are altered so that they look like the target's, that a selector learns by
        reinforcement, and that its feedback is the student's performance. All else is a reading of ours: augmenter,
        selector, what it sees, reward, stages and every value. Which data, teachers and results the paper has is
        unverified, so no result of it is a target.
      - target: The paper has two sets of rows, few of one domain and many of another. Here one set names domains; one
        of them is the target, all others are the source, whose rows are learned from only as they were rewritten.
      - score: The student's score is that of the whole dev split, which is of all domains; Running draws loss and score
        on the target's rows of `select`.
      - teacher: It has learned all training rows as one; whether the paper's sees the target alone is unverified.
      - augmenter: A copy of the teacher, which learns to guess hidden words from the target's rows, over its own table
        of words. The paper draws from a stationary distribution near the target's data; a few rounds from a source row
        stay near that row. Hidden tokens become [MASK], and a row hides at least one where words are learned.
      - masked_lm: Named, it fills the copy and its head before they learn; it has to be of the teacher's size. Left
        empty the head is new and the copy starts as the fine-tuned teacher, which is much less of a language model.
      - selector: The card also has the perplexity of a row among what it sees; scores over a vocabulary at each token
        are left out.
      - threshold: The selector begins with a chance of 0.73 for every row, above the threshold: from a half a first
        few rewards would decide by chance between all rows and none. It moves by Adam, which takes the direction of
        (reward - mean reward) and little of its size; as many rewards as there are episodes have to agree before rows
        are left out.
      - reward: The rows of `select`, which also choose the best weights; the paper's is unverified. A student that
        learns earns more by itself, which only the baseline over the last episodes takes off.
      - episodes: They belong to one pilot training, which goes on through all of them; the student learns anew
        afterwards from the rows that the selector then takes.
      - labels: Neither the target's rows nor the altered ones are learned by their gold labels, which altered rows may
        have lost; labels are in the reward alone.
      - states, attention: The paper's student has TinyBERT's size, and may learn these as well; here answers alone.
      - pool: Rows are rewritten as they come, anew in each epoch; a pool that is made beforehand is the card's.
      - cost: The predicted cost counts neither the rounds of the augmenter nor its scores over the vocabulary.
    """

    key = "l2a"
    title = "L2A-style augmentation"
    family = "data"
    formula = r"""
    \mathcal{L} &= \frac{1}{B} \Bigl( \sum_{b \in \text{target}} \mathcal{L}_b + \sum_{b \notin \text{target}} a_b\,
      \mathcal{L}_b \Bigr), \qquad \mathcal{L}_b = T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}_b/T)
      \,\big\|\, \operatorname{softmax}(z^{\mathrm S}_b/T)\bigr) \\
    \mathcal{L}_{\text{words}} &= -\frac{1}{|M|} \sum_{i \in M} \log \operatorname{softmax}\bigl(E\,
      g(h_i)\bigr)_{x_i} \\
    a_b &\sim \operatorname{Bernoulli}\bigl(\pi_\phi(x_b)\bigr), \qquad \Delta\phi \propto (r - \bar r) \sum_{b}
      \nabla_\phi \log \pi_\phi(a_b \mid x_b)
    """
    papers = (
        Paper(
            key="feng2021augment",
            title="Learning to Augment for Data-Scarce Domain BERT Knowledge Distillation",
            authors="Lingyun Feng, Minghui Qiu, Yaliang Li, Hai-Tao Zheng, Ying Shen",
            venue="AAAI",
            year=2021,
            arxiv="2101.08106",
        ),
    )
    needs = Needs(student=want("logits", "hidden"), teacher=want("logits"), rerun=("student",), order=1)
    kinds = frozenset({"classification"})
    domains = True

    class Config(MethodConfig):
        target: str = Field(
            "", max_length=200, description="the domain with few rows; empty: the one with the fewest to train on"
        )
        selection: Literal["learned", "all", "none"] = Field(
            "learned",
            description="which rewritten rows the student learns from: those that a selector takes, all, or none",
        )
        masked_lm: str = Field(
            "", max_length=500, description="initial weights of the model that rewrites rows: folder:/path, "
            "hub:organisation/name or package:name; empty: the teacher's",
        )  # fmt: skip
        augmenter: float = Field(
            0.5, gt=0, le=10, description="training steps of the model that rewrites rows, in multiples of the run's"
        )
        masked_share: float = Field(
            0.15, ge=0, le=0.9, description="chance of a token to be hidden, in learning and in each round"
        )
        rounds: int = Field(3, ge=0, le=100, description="how often hidden tokens of a row are drawn anew")
        temperature: float = temperature_field(1.0)
        pilot: float = Field(
            1.0, gt=0, le=10, description="steps in which the selector learns, in multiples of the run's"
        )
        episodes: int = Field(
            20, ge=1, le=10_000, description="rewards of the selector, spread over the pilot training"
        )
        selector_rate: float = Field(5e-3, gt=0, le=1, description="learning rate of the selector")
        selector_width: int = Field(64, ge=1, le=1024, description="width of the selector's hidden layer")
        threshold: float = Field(
            0.5,
            ge=0,
            le=1,
            description="selector's probability from which a rewritten row is used in the final training",
        )

    config: Config
    filled: Tensor
    measured: Tensor

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        ((self._teacher, size),) = setup.teachers.items()
        self.depth, self.target = size.layers, target_domain(config.target, setup, config.selection == "learned")
        self.selected = RunningMean(torch.ones(()))
        self.register_buffer("measured", torch.full((2,), torch.nan, dtype=torch.float64))
        self._copy: tuple[nn.Module, ...] = ()  # a tuple, or it would be a part of the method
        self._special: SpecialTokens | None = None
        self._words: WordModel | None = None
        self._steps, self._new = 0, list[Choice]()
        if config.selection != "none":
            self._build_augmenter()
        if config.selection == "learned":
            self.selector = RowSelector(setup.labels + 3, config.selector_width, setup.seed + 2)

    def _build_augmenter(self) -> None:
        setup, size = self.setup, self.setup.teachers[self._teacher]
        if size.embedding_width is not None:
            raise UserError(
                f"teachers.{self._teacher}",
                f"the words of {self._teacher} are narrower than its layers, so its states cannot ask for them",
                "choose a teacher whose embeddings are as wide as its layers, or set selection to none",
            )
        self.register_buffer("filled", torch.zeros((), dtype=torch.bool))
        if self.config.masked_lm:
            self._found = masked_lm.find(self.config.masked_lm, setup.student)
            masked_lm.check_same_shape(self._found, size, self._teacher)
            self.head = masked_lm.read_head(self._found)
        else:
            self.head = new_head(size.width, size.vocabulary, setup.seed)
        self.of_target = new_linear(size.width, 1, torch.Generator().manual_seed(setup.seed + 1))

    @classmethod
    def pilots(cls, config: MethodConfig, teachers: int) -> float:
        assert isinstance(config, cls.Config)
        learned = config.pilot if config.selection == "learned" else 0.0
        return learned + config.augmenter if config.selection != "none" else 0.0

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        return True

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        choice = {"choice of rows": {"selection": "all"}} if config.selection == "learned" else {}
        return choice | ({"altered rows": {"selection": "none"}} if config.selection != "none" else {})

    def own_optimizers(self) -> dict[str, Optimizer]:
        if self.config.selection != "learned":
            return {}
        return {"selector": Adam(self.selector.parameters(), lr=self.config.selector_rate)}

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        if self.config.selection == "none":
            return {"student": build()}
        models = {"student": build(), AUGMENTER: build(of=self._teacher)}
        self._copy = self._copy or (models[AUGMENTER],)
        return models

    def stages(self) -> list[Stage]:
        config, states = self.config, want(hidden=(self.depth,))
        learns = config.selection == "learned"
        seen = Needs(want("logits"), want("logits"), by={AUGMENTER: states} if learns else {})
        roles, student = ("student", AUGMENTER) if learns else ("student",), {"student": 1.0}
        words = Needs(states, rerun=("student",), order=1, gradients=0)
        augmenter = Stage(
            AUGMENTER, words, self.learn_words, config.augmenter, {AUGMENTER: 1.0, "method": 1.0}, teachers=(),
            students=(AUGMENTER,), pilot=True, judge="loss",
        )  # fmt: skip
        final = Stage(
            DISTIL, seen, self.terms, lr=student, start="fresh" if learns else "last", students=roles,
            probes=config.episodes, probe_rows=self._held_rows, live=config.selection != "none",
        )  # fmt: skip
        episodes = replace(final, name=EPISODES, share=config.pilot, start="last", pilot=True)
        return [*([augmenter] if config.selection != "none" else []), *([episodes] if learns else []), final]

    # --- altered rows -----------------------------------------------------------------------------------------------

    def before_stage(self, stage: str, teachers: TeacherAnswers) -> None:
        """Fills the augmenter before it learns, and reads from it in the stages after."""
        self._words = None
        if self.config.selection == "none":
            return
        (copy,), self._special = self._copy, special_tokens(teachers.vocabulary())
        if stage != AUGMENTER:
            self._words = WordModel(copy, self.head, self._special)
        elif self.config.masked_lm and not bool(self.filled):
            masked_lm.fill(copy, self._found, teachers.vocabulary())
            self.filled.fill_(True)  # a resumed run goes on with what it has learned

    @property
    def alters_words(self) -> bool:
        return self.config.selection != "none"

    def stream(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Batches in which the rows of other domains are rewritten; how follows from seed and the batch's number."""
        if self._words is None:
            return batches
        words, numbered = self._words, enumerate(batches, start=self._steps)
        return (self._altered(words, batch, number) for number, batch in numbered)

    def _altered(self, words: WordModel, batch: Batch, number: int) -> Batch:
        """Rows that did change get negative ids."""
        assert batch.source is not None, "the plan has checked that the data name domains"
        others = (batch.source != self.target).nonzero()[:, 0]
        if not len(others):
            return batch
        rng = np.random.default_rng((self.setup.seed, number))
        rewritten = words.resampled(batch.encoding.rows(others), self.config.masked_share, self.config.rounds, rng)
        ids = batch.encoding.input_ids.index_copy(0, others, rewritten.input_ids)
        changed = (ids != batch.encoding.input_ids).any(-1)
        encoding = replace(batch.encoding, input_ids=ids)
        return replace(batch, ids=torch.where(changed, -1 - batch.ids, batch.ids), encodings={"": encoding})

    # --- terms ------------------------------------------------------------------------------------------------------

    def learn_words(self, step: Step) -> dict[str, Term]:
        """The augmenter's terms."""
        assert self._special is not None, "before_stage reads the vocabulary"
        said, encoding = step.students[AUGMENTER], with_words(step.batch.encoding, self._special.ids)
        assert encoding.words is not None
        where = hide(encoding.words, self.config.masked_share, draws(self.setup.seed, step.batch.ids, step.step))
        ours = self._is_target(step)
        words = targets(encoding.input_ids, where & ours[:, None])
        again = said.rerun(words=said.look_up(torch.where(where, self._special.mask, encoding.input_ids)))
        table = said.look_up(torch.arange(self.setup.teachers[self._teacher].vocabulary, device=words.device))
        scores = self.head(full(again.hidden[self.depth])[words != IGNORE_INDEX], full(table))
        logits = self._nearness(full(said.hidden[self.depth]), said.mask)
        return {
            "words": Term(hidden_places(scores, words).mean()),
            "domain": Term(F.binary_cross_entropy_with_logits(logits, ours.to(logits))),
        }

    def terms(self, step: Step) -> dict[str, Term]:
        """The student's terms."""
        each = soft_rows(rows_for_teacher(step, step.student.logits), step.teacher.logits, self.config.temperature)
        ours = rows_for_teacher(step, self._is_target(step))
        terms = {"soft": Term((each * ours).mean())}
        if self.config.selection != "none":
            terms["augmented"] = Term((each * self._chosen(step, each.detach(), ~ours)).mean())
        return terms

    def _chosen(self, step: Step, each: Tensor, others: Tensor) -> Tensor:
        """a of each row, [rows] of 0 and 1; 0 for rows of the target."""
        score, chosen = None, others.to(each)
        if self.config.selection == "learned":
            state = self.state(step, each)
            logits = self.selector(state).detach()
            if step.stage == EPISODES:
                rngs = draws(self.setup.seed, step.batch.ids, step.step)
                lots = torch.tensor([rng.random() for rng in rngs], dtype=torch.float64).to(each.device)
                chosen = chosen * (rows_for_teacher(step, lots) < logits.sigmoid())
                if torch.is_grad_enabled():
                    score = self.selector.score(state[others], chosen[others])
            else:
                chosen = chosen * (logits.sigmoid() >= self.config.threshold)
        if torch.is_grad_enabled():
            self._new.append(Choice(score, chosen.sum(), others.sum()))
        return chosen

    @torch.no_grad()
    def state(self, step: Step, each: Tensor) -> Tensor:
        """x of each row, [rows, classes + 3]; each: the row's loss, [rows]."""
        answers, augmenter = step.teacher.logits, step.students[AUGMENTER]
        hidden, mask = (rows_for_teacher(step, one) for one in (augmenter.hidden[self.depth], augmenter.mask))
        near = self._nearness(full(hidden), mask).sigmoid()
        return torch.cat([full(answers).softmax(-1), torch.stack([uncertainty(answers), each, near], -1)], -1)

    def _nearness(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """d of each row, the logit of its being the target's, [rows]."""
        logits: Tensor = self.of_target(content_means(hidden, mask))[:, 0]
        return logits

    def _is_target(self, step: Step) -> Tensor:
        assert step.batch.source is not None, "the plan has checked that the data name domains"
        return step.batch.source == self.target

    # --- episodes ---------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        """Adds the step to the episode; where one ends, looks at the target's rows of `select` and rewards."""
        parts, self._new = self._new, []
        if step.stage == AUGMENTER:
            return
        if step.stage == DISTIL and step.step == 1:  # what was noted is of the pilot's student
            self.measured.fill_(torch.nan)
            self.selected.reset(torch.ones(()))
        self._steps += 1
        if parts and (rows := torch.stack([part.rows for part in parts]).sum()):
            self.selected.update(torch.stack([part.chosen for part in parts]).sum() / rows)
        for part in parts:
            if part.score is not None:
                self.selector.add(part.score, part.rows)
        episodes = self.config.episodes
        if step.step * episodes // step.steps > (step.step - 1) * episodes // step.steps and self._rewards:
            loss, score, *_ = step.probe(self.target).values()
            self.measured.copy_(torch.tensor([loss, score]))
            if step.stage == EPISODES:
                self.selector.learn(-loss, self.optimizers["selector"])

    @property
    def _held_rows(self) -> int | None:
        """Rows of the target in `select`; None where they are not counted."""
        return self.setup.domain_rows[self.target][1] if self.setup.domain_rows else None

    @property
    def _rewards(self) -> bool:
        """Whether `select` has rows of the target."""
        return self._held_rows != 0

    def notes(self) -> dict[str, float]:
        """The share of altered rows that count, smoothed over steps; loss and score on the target's rows of `select`
        after the last episode, its reward and the mean of those so far."""
        told = {}
        if int(self.selected.count):
            told["rewritten rows used/share"] = float(self.selected.mean)
        if not bool(self.measured.isnan().any()):
            loss, score = self.measured.tolist()
            told |= {"target domain/loss on held-out rows": loss, "target domain/score on held-out rows": score}
        return told | (self.selector.notes() if self.config.selection == "learned" else {})

    def history(self) -> dict[str, object]:
        return {"steps": self._steps}

    def restore_history(self, history: Mapping[str, object]) -> None:
        steps = history["steps"]
        assert isinstance(steps, int)
        self._steps = steps
