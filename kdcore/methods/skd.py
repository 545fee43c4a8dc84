"""Stochastic knowledge distillation from an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    hard_label_weight_field,
    has_soft_targets,
    rows_for_teacher,
    temperature_field,
    without_share,
)
from kdcore.methods.draws import Draws
from kdcore.methods.teacher_weights import Mixture, all_scores, by_rank, by_softmax
from kdcore.records import Needs, Paper, Setup, Stage, Step, Term, want

FINAL = "distil"


class SKD(Method):
    """Stochastic KD: at each step one teacher, drawn at random from an ensemble of several sizes, teaches alone.

    loss     (1 - w) soft + w hard                              w: hard_label_weight, 0 by default
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows, t of the drawn teacher; for scores: (s - t)^2
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    draw     k ~ p, fixed. uniform: 1 / n. teacher-rank: by the teachers' own scores. student-rank: by the scores of n
             pilot students, each distilled from one teacher alone with the same settings.
             rank -> p: r_k / (n (n + 1) / 2), r = n for the best, 1 for the worst, ties share their mean rank;
             or softmax(score / spread)
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - sources: No code was published and only parts of the paper could be read.
      - sampling: That there are three distributions, and that a better teacher (or teacher of a better student) is
        drawn more often, is the paper's.
      - mapping: The formula from rank to p is ours.
      - temperature: T = 1 is ours and unverified (it is TinyBERT's, which the paper says it follows). At T = 1 the
        paper's soft cross-entropy has the gradient of our KL.
      - hard_label_weight: No hard labels by default, which is ours and unverified.
      - scores: The squared error is ours and unverified.
      - training: The student's rate, batch and epochs and the paper's full ensemble are unverified and left to the run.
      - ranks: They are decided on `select`, rows kept aside from training, where the paper uses the dev set.
      - initial weights: A student starts from the run's, where the paper starts from the general TinyBERT (its 4-layer
        student: unverified).
      - augmentation: TinyBERT's, which the paper adds as an option, is not built in.
      - pilots: They cost n trainings more, shown before start.
      - AutoSKDBERT: It learns the distribution instead of fixing it, and is deliberately not built: only its abstract
        could be read.
    """

    key = "skd"
    title = "Stochastic KD"
    family = "choice"
    formula = r"""
    \mathcal{L} &= (1-w)\,\mathcal{L}_{\text{soft}} + w\,\mathcal{L}_{\text{hard}} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T_k}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr), \qquad k \sim p \text{ at each step} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y}
    """
    papers = (
        Paper(
            key="ding2023skdbert",
            title="SKDBERT: Compressing BERT via Stochastic Knowledge Distillation",
            authors="Zixiang Ding, Guoqing Jiang, Shuai Zhang, Lin Guo, Wei Lin",
            venue="AAAI",
            year=2023,
            arxiv="2211.14466",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits"))
    teachers = (1, 12)

    class Config(MethodConfig):
        sampling: Literal["uniform", "teacher-rank", "student-rank"] = Field(
            "uniform", description="which teachers are drawn more often: none, the better ones, or those who teach best"
        )
        mapping: Literal["rank", "softmax"] = Field(
            "rank", description="from scores to probabilities: by rank, or softmax of the scores"
        )
        spread: float = Field(
            0.05, gt=0, le=10, description="mapping=softmax: score difference that makes a teacher e times as likely"
        )
        temperature: float = temperature_field(1.0)
        hard_label_weight: float = hard_label_weight_field()

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self._draws = Draws(setup.teachers)
        self._pilot_scores: dict[str, float] = {}
        self._pilots: dict[str, str] = {}
        if self.pilots(config, len(setup.teachers)):
            self._pilots = {f"pilot-{name}": name for name in setup.teachers}

    @classmethod
    def pilots(cls, config: MethodConfig, teachers: int) -> float:
        assert isinstance(config, cls.Config)
        return float(teachers) if config.sampling == "student-rank" and teachers > 1 else 0.0

    @classmethod
    def mixture(cls, config: MethodConfig) -> Mixture | None:
        assert isinstance(config, cls.Config)
        return Mixture("draw", "chance", "draws", config.temperature) if has_soft_targets(config) else None

    def stages(self) -> list[Stage]:
        pilots = [
            Stage(stage, self.needs, self.terms, start="fresh", teachers=(teacher,), pilot=True)
            for stage, teacher in self._pilots.items()
        ]
        return [*pilots, Stage(FINAL, self.needs, self.terms, start="fresh" if pilots else "last")]

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        if step.stage in self._pilots:
            return {self._pilots[step.stage]: None}
        return {self._draws.draw(self.probabilities(), step.rng): None}

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        return has_soft_targets(config)

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_share(config, "hard_label_weight", "hard", "soft")

    def terms(self, step: Step) -> dict[str, Term]:
        config, logits = self.config, step.student.logits
        soft = teacher_signal(rows_for_teacher(step, logits), step.teacher.logits, config.temperature, step.regression)
        hard = hard_labels(logits, step.batch.labels, step.regression)
        return {"soft": Term(soft, 1 - config.hard_label_weight), "hard": Term(hard, config.hard_label_weight)}

    def after_step(self, step: Step) -> None:
        """Counts the draw here, since a batch that is split into parts asks for its teacher once a part."""
        if step.stage not in self._pilots:
            self._draws.count(step.teachers)

    def after_stage(self, stage: str, scores: Mapping[str, float]) -> None:
        """Keeps a pilot's main score, the first one given."""
        if stage in self._pilots:
            self._pilot_scores[self._pilots[stage]] = float(next(iter(scores.values())))

    def probabilities(self) -> dict[str, float]:
        """Teacher -> chance of being drawn.

        Raises:
            UserError: the ranking asks for a score that no one recorded.
        """
        names = list(self.setup.teachers)
        if self.config.sampling == "uniform" or len(names) == 1:
            return dict.fromkeys(names, 1 / len(names))
        source = self.setup.scores if self.config.sampling == "teacher-rank" else self._pilot_scores
        scores = {name: source.get(name) for name in names}
        known = all_scores(scores, "options.sampling", self.config.sampling, "choose uniform sampling")
        chances = by_rank(known) if self.config.mapping == "rank" else by_softmax(known, self.config.spread)
        return dict(zip(names, chances, strict=True))

    def notes(self) -> dict[str, float]:
        """Each teacher's share of the draws so far, the chance it was given, and the scores of pilots."""
        notes = {f"pilot/{name}": score for name, score in self._pilot_scores.items()}
        return notes | self._draws.notes(self.probabilities()) if self._draws.total else notes

    def history(self) -> dict[str, object]:
        return {"counts": dict(self._draws.counts), "pilot_scores": dict(self._pilot_scores)}

    def restore_history(self, history: Mapping[str, object]) -> None:
        scores = history["pilot_scores"]
        assert isinstance(scores, Mapping)
        self._draws.restore(history["counts"])
        self._pilot_scores = {str(name): float(score) for name, score in scores.items()}
