"""ALP-KD: attention-based layer projection."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from kdcore import layer_map
from kdcore.layer_map import LayerMap
from kdcore.losses.mixture import layer_shares, mixture_mse
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    hard_and_soft,
    rows_for_teacher,
    same_width,
    temperature_field,
    without_share,
    without_weight,
)
from kdcore.methods.running_mean import RunningMean
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want


class ALPKD(Method):
    """ALP-KD: each student layer learns from a mixture of all teacher layers, most from those most like itself.

    loss     (1 - alpha) hard + alpha soft + beta mixture
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    mixture  (c_j - sum_i a_ji d_i)^2, mean over width and rows, sum over the student's layers j; a_ji = exp(<c_j, d_i>)
             / sum_k exp(<c_j, d_k>) over the teacher's layers that j looks at; c, d: the [CLS] states of student and
             teacher, without the embedding output; tokens=all: the same for every token, mean over a row's tokens
    view     all: at every layer; buckets: at the j-th of as many consecutive blocks as the student has layers;
             overlapping: at one layer more on each side
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); c, d: [batch, width] (tokens=all: [batch, tokens,
             width]), equal widths; a: [batch, student's layers, teacher's layers]; y: [batch]
    departs
      - sources: Of the paper abstract, introduction and a figure's caption were read, and two implementations by
        others; no code by the authors is known. The equations are those of the two.
      - alpha, beta: The paper weighs hard, soft and mixture with three coefficients; that they sum to 1 is unverified.
        An implementation recommends 0.1, 0.7 and 0.2 at T = 20, but never reads the last and takes its soft term
        without T^2, averaged over classes too: in effect 0.1 hard + mixture.
        Values and T are KD's here, and T^2 is ours; the paper's are unverified.
      - scale: Whether the paper scales the products is unverified; of the two implementations one divides by the square
        root of the width. Unscaled products of wide states are large, so that a is nearly all on one layer.
      - detach: Both implementations let the gradient through a, which is the default.
      - sum: One implementation takes the sum over layers, as here, the other the mean.
      - tokens: [CLS] alone in one implementation; all tokens in the other.
      - view: The paper's overlap of buckets is unverified; one layer on each side is ours. Where depths do not divide,
        blocks differ by a layer, while a size of ceil(N / M) would leave the last ones empty.
      - projection: The method defines none, so that unequal widths are refused.
      - initial weights: The student's are a choice of the run; the paper's are unverified.
    """

    key = "alp-kd"
    title = "ALP-KD"
    family = "hidden"
    formula = r"""
    \mathcal{L} &= (1-\alpha)\,\mathcal{L}_{\text{hard}} + \alpha\,\mathcal{L}_{\text{soft}} +
      \beta\,\mathcal{L}_{\text{mixture}} \\
    \mathcal{L}_{\text{mixture}} &= \sum_{j} \frac{1}{d} \left\| c^{\mathrm S}_{j} - \sum_{i} a_{ji}\,
      c^{\mathrm T}_{i} \right\|_2^2, \qquad a_{ji} = \frac{\exp \langle c^{\mathrm S}_{j}, c^{\mathrm T}_{i}
      \rangle}{\sum_{k} \exp \langle c^{\mathrm S}_{j}, c^{\mathrm T}_{k} \rangle} \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr)
    """
    papers = (
        Paper(
            key="passban2021alp",
            title="ALP-KD: Attention-Based Layer Projection for Knowledge Distillation",
            authors="Peyman Passban, Yimeng Wu, Mehdi Rezagholizadeh, Qun Liu",
            venue="AAAI",
            year=2021,
            arxiv="2012.14022",
        ),
    )
    needs = Needs(student=want("logits", "cls", "hidden"), teacher=want("logits", "cls", "hidden"))
    unlabelled = ("alpha", "beta")

    class Config(MethodConfig):
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(10.0)
        beta: float = Field(1.0, ge=0, le=1e5, description="weight of the mixture, for the mean over width")
        view: Literal["all", "buckets", "overlapping"] = Field(
            "all", description="teacher layers that a student layer looks at: all, its block, or one more on each side"
        )
        scale: Literal["none", "sqrt-width"] = Field(
            "none", description="products of states as they are, or divided by the square root of the width"
        )
        tokens: Literal["cls", "all"] = Field("cls", description="whose states are compared: [CLS], or every token's")
        detach: bool = Field(False, description="take the shares of the mixture as constants in the gradient")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        (teacher,) = setup.teachers.values()
        self.map = self.layer_map(config, setup.student, teacher)
        if not self.map:
            return
        same_width(setup, "ALP-KD compares states directly")
        self.theirs = sorted({theirs for _, theirs in layer_map.pairs(self.map)})
        seen = [[layer in several for layer in self.theirs] for several in self.map.values()]
        self.register_buffer("seen", torch.tensor(seen), persistent=False)
        self.shares = RunningMean(self.seen / self.seen.sum(-1, keepdim=True))
        self.effective = RunningMean(self.seen.sum(-1).double().mean())
        self._new: list[Tensor] = []

    seen: Tensor

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """Every student layer -> the teacher layers that it looks at. beta = 0 matches none."""
        assert isinstance(config, cls.Config)
        if not config.beta:
            return {}
        if config.view == "all":
            return layer_map.every(student.layers, teacher.layers)
        blocks, more = layer_map.blocks(student.layers, teacher.layers), int(config.view == "overlapping")
        return {
            m: tuple(range(max(1, block[0] - more), min(teacher.layers, block[-1] + more) + 1))
            for m, block in blocks.items()
        }

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_share(config) | without_weight(config, mixture="beta")

    def stages(self) -> list[Stage]:
        if not self.map:
            return [Stage("distil", Needs(want("logits"), want("logits")), self.terms)]
        ours, theirs = {self._states: tuple(self.map)}, {self._states: tuple(self.theirs)}
        needs = Needs(want("logits", **ours), want("logits", **theirs))
        return [Stage("distil", needs, self.terms, lr={"student": 1.0})]

    @property
    def _states(self) -> str:
        """The tensor whose layers are compared."""
        return "cls" if self.config.tokens == "cls" else "hidden"

    def terms(self, step: Step) -> dict[str, Term]:
        terms = hard_and_soft(step, self.config.alpha, self.config.temperature)
        if self.map:
            terms["mixture"] = Term(self._mixture(step), self.config.beta)
        return terms

    def _mixture(self, step: Step) -> Tensor:
        states, teacher = getattr(step.student, self._states), getattr(step.teacher, self._states)
        ours = torch.stack([rows_for_teacher(step, states[m]) for m in self.map], dim=-2)
        theirs = torch.stack([teacher[n] for n in self.theirs], dim=-2)
        scale = self.setup.student.width**-0.5 if self.config.scale == "sqrt-width" else 1.0
        shares = layer_shares(ours, theirs, self.seen, scale)
        if torch.is_grad_enabled():
            # of all tokens that of [CLS] stands for its row
            self._new.append(shares.detach() if self.config.tokens == "cls" else shares.detach()[:, 0])
        mask = None if self.config.tokens == "cls" else rows_for_teacher(step, step.student.mask)
        return mixture_mse(ours, theirs, shares.detach() if self.config.detach else shares, mask)

    # --- read-outs --------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        """Takes in the shares of all parts of the batch."""
        if self.map and self._new:
            shares = torch.cat(self._new).double()
            self.shares.update(shares.mean(0))
            self.effective.update((-torch.xlogy(shares, shares).sum(-1)).exp().mean())
            self._new = []

    def notes(self) -> dict[str, float]:
        """Of how many teacher layers a mixture consists, as exp(entropy of its shares)."""
        return {"layers in a mixture/mean": float(self.effective.mean)} if self.map else {}

    def matrices(self) -> dict[str, Tensor]:
        """The share of each teacher layer in the mixture of each student layer, smoothed over steps."""
        if not self.map:
            return {}
        teacher = next(iter(self.setup.teachers.values()))
        whole = torch.zeros(len(self.map), teacher.layers, dtype=torch.float64)
        whole[:, [layer - 1 for layer in self.theirs]] = self.shares.mean.cpu()
        return {"shares": whole}
