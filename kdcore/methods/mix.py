"""A loss put together by hand from the terms of several papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.fields import parse_list
from kdcore.layer_map import LayerMap
from kdcore.losses.attention import score_mse
from kdcore.losses.contrast import (
    relational_angle,
    relational_distance,
    sample_similarity,
    similarity_preserving,
)
from kdcore.losses.hidden import attention_transfer, cosine, patience, token_mse
from kdcore.losses.precision import full
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
    same_width,
    temperature_field,
    without_share,
    without_weight,
)
from kdcore.methods.draws import Draws
from kdcore.methods.teacher_weights import Mixture, all_scores, by_rank
from kdcore.models.projections import linear
from kdcore.records import ModelSize, Needs, Setup, Stage, Step, Term, want

READS = {
    "patience": "cls",
    "hidden": "hidden",
    "scores": "scores",
    "cosine": "hidden",
    "attention": "attention",
    "values": "values",
    "rows": "cls",
    "hint": "hidden",
    "transfer": "hidden",
    "similarity": "cls",
    "distance": "cls",
    "angle": "cls",
}
"""Term -> the tensor that it compares."""
MAPPED = ("patience", "hidden", "scores", "hint", "transfer")
"""Terms over mapped layers; the others compare last layers."""
BY_HEAD = ("scores", "attention", "values")
OVER_ROWS = {
    "rows": sample_similarity,
    "similarity": similarity_preserving,
    "distance": relational_distance,
    "angle": relational_angle,
}
"""Terms on how the rows of a batch relate to one another."""


class Mix(Method):
    """Your own mixture: terms of several papers, each with a weight, and of several teachers one drawn at each step.

    loss     (1 - alpha) hard + alpha soft + patience_weight patience + hidden_weight hidden + scores_weight scores +
             cosine_weight cosine + attention_weight attention + values_weight values + rows_weight rows +
             hint_weight hint + transfer_weight transfer + similarity_weight similarity + distance_weight distance +
             angle_weight angle
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    patience Patient KD's: (n(c_j) - n(d_g(j)))^2, mean over rows, layers j = 1..k-1 and width; c, d: [CLS] states
    hidden   TinyBERT's: (h_m W + b - h_g(m))^2, mean over width, a row's valid tokens, then rows, sum over layers
             m = 1..k
    scores   TinyBERT's: (Z_m - Z_g(m))^2, mean over heads, pairs of valid tokens, then rows, sum over layers m = 1..k
    cosine   DistilBERT's: 1 - cos of the last hidden states, mean over a row's valid tokens, then rows
    attention MiniLM's: KL(A_t || A_s) of the last layers, mean over heads, a row's valid tokens, then rows
    values   MiniLM's: KL(R_t || R_s), R = softmax(V V^T / sqrt(head width)) of the last layers, the same mean
    rows     MLKD-BERT's: KL(R(d) || R(c)) between the batch's rows, of the last [CLS] states
    hint     FitNets': (h_m V + v - h_g(m))^2 of the middle one of the mapped layers, mean over width, a row's valid
             tokens, then rows
    transfer Attention transfer: |n(q_m) - n(q_g(m))|, mean over rows, sum over layers m = 1..k; q: a row's tokens, each
             the mean over width of its squared state
    similarity Similarity preserving: (n(F_s F_s^T) - n(F_t F_t^T))^2, mean over pairs of rows; F: the batch's last
             [CLS] states
    distance Relational KD: Huber(|c_i - c_j| / mu - |d_i - d_j| / mu'), mean over pairs of rows, mu, mu': their means
    angle    Relational KD: Huber(cos(c_i - c_j, c_k - c_j) - cos(d_i - d_j, d_k - d_j)), mean over triplets of rows
    shapes   as in those methods; n(x) = x / |x|; equal numbers of heads for scores, attention and values; equal widths
             for patience and cosine; s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - source: No paper describes this sum. Each term is the function that the method of its name calls, with the same
        means, so that a weight means the same here and there.
      - stages: TinyBERT, MiniLM and MLKD-BERT take their terms in a stage of their own, before the prediction; here all
        terms act from the first step to the last.
      - patience_weight: Patient KD's default there is 500; a weight of 0 leaves a term out, and nothing of it is read.
      - hidden: W starts as the identity where widths are equal, else at random; each teacher has one of its own.
      - hint, transfer, similarity, distance, angle: Papers on images (Romero et al. 2015; Zagoruyko and Komodakis 2017;
        Tung and Mori 2019; Park et al. 2019), written from a study's account of them (Sarfraz et al. 2020), as we took
        it over to [CLS] and token states. That they are the terms of that study, and any weight for BERT, is
        unverified: there SP has 3000 and attention transfer 1000, and relational KD perhaps 25 and 50, all for images.
      - hint: FitNets trains up to the hint in a stage of its own; V starts as W does.
      - transfer: That of the code squares the difference and takes its mean over places. A layer of BERT ends in a
        LayerNorm, after which all tokens weigh alike but for its gains and biases: without these the term is 0.
      - distance, angle: The sum over pairs and triplets is a mean here, of rows that differ. mu is that of the whole
        batch. Batches that accumulate splits relate the rows of their parts alone.
      - choice: One teacher is drawn a step, all alike or by the rank of its score, as in Stochastic KD without pilots.
        One pass of one teacher costs no more than with one teacher alone.
      - teachers: Terms of layers ask for teachers of one depth.
    """

    key = "mix"
    title = "Your own mixture"
    family = "choice"
    formula = r"""
    \mathcal{L} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} +
      \lambda_{\text{pat}}\,\mathcal{L}_{\text{patience}} + \lambda_{\text{hid}}\,\mathcal{L}_{\text{hidden}} +
      \lambda_{\text{sco}}\,\mathcal{L}_{\text{scores}} \\
    &\quad + \lambda_{\text{cos}}\,\mathcal{L}_{\text{cosine}} +
      \lambda_{\text{att}}\,\mathcal{L}_{\text{attention}} + \lambda_{\text{val}}\,\mathcal{L}_{\text{values}}
      + \lambda_{\text{rows}}\,\mathcal{L}_{\text{rows}} \\
    &\quad + \lambda_{\text{hint}}\,\mathcal{L}_{\text{hint}} +
      \lambda_{\text{tra}}\,\mathcal{L}_{\text{transfer}} + \lambda_{\text{sim}}\,\mathcal{L}_{\text{similarity}}
      + \lambda_{\text{dis}}\,\mathcal{L}_{\text{distance}} + \lambda_{\text{ang}}\,\mathcal{L}_{\text{angle}} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr)
    """
    papers = ()
    needs = Needs(
        student=want("logits", "cls", "hidden", "scores", "attention", "values"),
        teacher=want("logits", "cls", "hidden", "scores", "attention", "values"),
    )
    teachers = (1, 12)
    batch_relational = True
    unlabelled = ("alpha", *(f"{name}_weight" for name in READS))

    class Config(MethodConfig):
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(10.0)
        layers: Literal["spread", "uniform", "last", "first"] | tuple[int, ...] = Field(
            "spread", description="teacher layers for the student's: a rule, or a list"
        )
        choice: Literal["uniform", "rank"] = Field(
            "uniform", description="several teachers: which is drawn more often, none or the better"
        )
        patience_weight: float = Field(0.0, ge=0, le=1e5, description="weight of Patient KD's [CLS] states")
        hidden_weight: float = Field(1.0, ge=0, le=1e5, description="weight of TinyBERT's token states")
        scores_weight: float = Field(0.0, ge=0, le=1e5, description="weight of TinyBERT's attention scores")
        cosine_weight: float = Field(0.0, ge=0, le=1e5, description="weight of DistilBERT's direction of last states")
        attention_weight: float = Field(0.0, ge=0, le=1e5, description="weight of MiniLM's last attention")
        values_weight: float = Field(0.0, ge=0, le=1e5, description="weight of MiniLM's relations of values")
        rows_weight: float = Field(0.0, ge=0, le=1e5, description="weight of MLKD-BERT's relations of rows")
        hint_weight: float = Field(0.0, ge=0, le=1e5, description="weight of FitNets' states of a middle layer")
        transfer_weight: float = Field(0.0, ge=0, le=1e5, description="weight of attention transfer's token energies")
        similarity_weight: float = Field(0.0, ge=0, le=1e5, description="weight of SP's similarities of rows")
        distance_weight: float = Field(0.0, ge=0, le=1e5, description="weight of relational KD's distances of rows")
        angle_weight: float = Field(0.0, ge=0, le=1e5, description="weight of relational KD's angles of rows")

        _as_list = field_validator("layers", mode="before")(parse_list)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.weights = {name: weight for name in READS if (weight := getattr(config, f"{name}_weight"))}
        self._check(setup)
        teacher = next(iter(setup.teachers.values()))
        self.map = layer_map.single(self.layer_map(config, setup.student, teacher))
        self.last = setup.student.layers, teacher.layers
        if "hidden" in self.weights:
            self.projections = _projections(setup)
        if "hint" in self.weights:
            self.hint_projections = _projections(setup)
        self._draws = Draws(setup.teachers)

    def _check(self, setup: Setup) -> None:
        """Raises UserError where terms and models do not go together."""
        if "patience" in self.weights and setup.student.layers < 2:
            raise UserError(
                "student.layers", "patience leaves out the student's last layer, and a student of 1 layer has no other",
                "give the student at least 2 layers, or set patience_weight to 0",
            )  # fmt: skip
        if direct := [name for name in ("patience", "cosine") if name in self.weights]:
            same_width(setup, f"the term {direct[0]} compares states directly")
        if heads := [name for name in BY_HEAD if name in self.weights]:
            same_heads(setup, f"the term {heads[0]} compares head by head", f"set {heads[0]}_weight to 0")
        depths = {name: size.layers for name, size in setup.teachers.items()}
        if self.weights and len(set(depths.values())) > 1:
            listed = ", ".join(f"{name} {layers}" for name, layers in depths.items())
            raise UserError(
                "teachers", f"terms of layers ask for teachers of one depth, but these differ: {listed} layers",
                "choose teachers of one depth, or set all weights but alpha to 0",
            )  # fmt: skip

    @classmethod
    def relates_rows(cls, config: MethodConfig) -> bool:
        assert isinstance(config, cls.Config)
        return any(getattr(config, f"{name}_weight") for name in OVER_ROWS)

    @classmethod
    def mixture(cls, config: MethodConfig) -> Mixture | None:
        assert isinstance(config, cls.Config)
        return Mixture("draw", "chance", "draws", config.temperature) if config.alpha else None

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """Mapped layers, and the last ones where a term compares these alone.

        Raises:
            UserError: a rule or a list that does not fit the depths.
        """
        assert isinstance(config, cls.Config)
        if any(getattr(config, f"{name}_weight") for name in MAPPED):
            return layer_map.alone(layer_map.from_setting(config.layers, student.layers, teacher.layers))
        if any(getattr(config, f"{name}_weight") for name in READS):
            return {student.layers: (teacher.layers,)}
        return {}

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_share(config) | without_weight(config, **{name: f"{name}_weight" for name in READS})

    def stages(self) -> list[Stage]:
        sides: tuple[dict[str, set[int]], dict[str, set[int]]] = ({}, {})
        for term in self.weights:
            for side, layers in zip(sides, zip(*self._pairs(term), strict=True), strict=True):
                side.setdefault(READS[term], set()).update(layers)
        ours, theirs = ({name: tuple(sorted(layers)) for name, layers in side.items()} for side in sides)
        needs = Needs(want("logits", **ours), want("logits", **theirs))
        return [Stage("distil", needs, self.terms)]

    def _pairs(self, term: str) -> list[tuple[int, int]]:
        """Layers that the term compares: the student's and the teacher's."""
        if term not in MAPPED:
            return [self.last]
        if term == "hint":
            return [list(self.map.items())[(len(self.map) - 1) // 2]]
        return [(m, n) for m, n in self.map.items() if term != "patience" or m < self.last[0]]

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        names = list(self.setup.teachers)
        if len(names) == 1:
            return {names[0]: None}
        return {self._draws.draw(self.chances(), step.rng): None}

    def chances(self) -> dict[str, float]:
        """Teacher -> how likely it is drawn.

        Raises:
            UserError: the rank asks for a score that no one recorded.
        """
        scores = self.setup.scores
        if self.config.choice == "uniform" or len(scores) == 1:
            return dict.fromkeys(scores, 1 / len(scores))
        known = all_scores(scores, "options.choice", "rank", "choose uniform")
        return dict(zip(scores, by_rank(known), strict=True))

    # --- terms ------------------------------------------------------------------------------------------------------

    def terms(self, step: Step) -> dict[str, Term]:
        terms = hard_and_soft(step, self.config.alpha, self.config.temperature)
        return terms | {name: Term(self._term(name, step), weight) for name, weight in self.weights.items()}

    def _term(self, name: str, step: Step) -> Tensor:
        student, teacher, mask = (
            getattr(step.student, READS[name]),
            getattr(step.teacher, READS[name]),
            step.teacher.mask,
        )
        pairs = self._pairs(name)
        ours, theirs = [rows_for_teacher(step, student[m]) for m, _ in pairs], [teacher[n] for _, n in pairs]
        match name:
            case "patience":
                return patience(ours, theirs, normalise=True)
            case "hidden" | "hint":
                maps = self.projections if name == "hidden" else self.hint_projections
                project = maps[str(theirs[0].shape[-1])]
                both = zip(ours, theirs, strict=True)
                return torch.stack([token_mse(project(full(s)), t, mask) for s, t in both]).sum()
            case "transfer":
                return attention_transfer(ours, theirs, mask)
            case "scores":
                return score_mse(ours, theirs, mask)
            case "cosine":
                return cosine(ours[0], theirs[0], mask)
            case "attention":
                return attention_divergence(ours[0], theirs[0], mask)
            case "values":
                return token_relations(merge_heads(ours[0]), merge_heads(theirs[0]), mask, heads=ours[0].shape[1])
            case _:
                return OVER_ROWS[name](ours[0], theirs[0])

    # --- read-outs --------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        self._draws.count(step.teachers)

    def notes(self) -> dict[str, float]:
        """Each teacher's share of the draws so far, and the chance it was given."""
        several = len(self.setup.teachers) > 1
        return self._draws.notes(self.chances()) if several and self._draws.total else {}

    def history(self) -> dict[str, object]:
        return {"draws": dict(self._draws.counts)}

    def restore_history(self, history: Mapping[str, object]) -> None:
        self._draws.restore(history["draws"])


def _projections(setup: Setup) -> torch.nn.ModuleDict:
    """A linear map from the student's width to each width of a teacher."""
    widths = {size.width for size in setup.teachers.values()}
    return torch.nn.ModuleDict({str(width): linear(setup.student.width, width, setup.seed) for width in sorted(widths)})
