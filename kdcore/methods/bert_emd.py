"""BERT-EMD: many-to-many layer mapping with earth mover's distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from kdcore import layer_map
from kdcore.layer_map import LayerMap
from kdcore.losses.attention import score_mse
from kdcore.losses.hidden import token_mse
from kdcore.losses.precision import full
from kdcore.losses.transport import score_costs, state_costs, transport_plan, unit_costs
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    hard_and_soft,
    rows_for_teacher,
    same_heads,
    temperature_field,
    without_share,
)
from kdcore.methods.running_mean import RunningMean
from kdcore.models.projections import linear
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want

LEAST_MASS = 1e-6
KINDS = ("states", "attention")


class BERTEMD(Method):
    """BERT-EMD: every student layer may learn from every teacher layer, as the cheapest transport between them says.

    loss     beta states + beta attention + beta embedding + (1 - alpha) hard + alpha soft
    states   sum_ij F_ij * D_ij, D_ij = (h_i W + b - g_j)^2, mean over width, a row's valid tokens, then rows
    attention the same with a plan of its own and D_ij = (A_i - B_j)^2, mean over heads, a row's valid tokens times its
             valid tokens, then rows; A, B: Q K^T / sqrt(head width), before mask and softmax
    embedding (h_0 W + b - g_0)^2, the mean of states; h_0, g_0: the embedding outputs
    plan     F of the least sum_ij F_ij * D_ij with F >= 0, row sums v and column sums w, solved anew at each step; it
             has no gradient. v, w: masses of student and teacher layers, equal at first; then, by masses=cost,
             proportional to 1 / (cost of a unit of the layer's mass), mean of states and attention
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    shapes   h, g: [batch, tokens, width], any widths; A, B: [batch, heads, tokens, tokens], equal numbers of heads; F,
             D: [student's layers, teacher's layers]; s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - sources: The authors' code was read whole; of the paper only the abstract and the start of the introduction. Its
        equations and tables are unverified.
      - alpha: 1, so that gold labels are not used, is their setting for all tasks.
      - beta: Their code's default is 0.01; the best settings that they published have 0.001 or 0.005.
      - soft: Their soft cross-entropy is divided by the number of classes C, so that ours has C times its gradient:
        their beta is C beta here.
      - masses: cost is their code since August 2021. softmax is the code of the paper's time: softmax(u / T) over u =
        (sum of unit costs) / (a layer's own), the mean of states and attention, and a second softmax of that.
      - mass_temperature: It acts in softmax alone; in their present code it is read and not used.
      - joint_masses: One pair of masses for states and attention, as in their code without its switch for two.
      - least mass: A mass of 0 would stay 0, and a layer that costs nothing would take all; ours are at least 1e-6, as
        if no layer cost less than a millionth of the dearest.
      - projection: One W and b for the embedding output and all layers, as in their code, also where widths are equal.
        W starts as the identity there, else at random so that states keep their scale; how theirs starts is unverified.
      - padding: Their means go over padding too, and scores of -100 or less count as 0; ours leave padding out.
      - dropout: In their code the teacher's is on; ours is off. Their classifiers read relu of the pooled output.
      - initial weights: Their students are the general TinyBERT of 4 and 6 layers; here they are a choice of the run.
      - schedule: Their rate is constant in the single stage; ours falls. Data augmentation is not built in.
      - parts: Where a batch is split into parts, each part has a plan, and masses follow from the mean of them.
    """

    key = "bert-emd"
    title = "BERT-EMD"
    family = "hidden"
    formula = r"""
    \mathcal{L} &= \beta\,\bigl(\mathcal{L}_{\text{states}} + \mathcal{L}_{\text{attention}} +
      \mathcal{L}_{\text{embedding}}\bigr) + (1-\alpha)\,\mathcal{L}_{\text{hard}} +
      \alpha\,\mathcal{L}_{\text{soft}} \\
    \mathcal{L}_{\text{states}} &= \sum_{i,j} F_{ij} D_{ij}, \qquad D_{ij} = \frac{1}{n\,d} \left\| h^{\mathrm
      S}_{i} W + b - h^{\mathrm T}_{j} \right\|_F^2 \\
    \mathcal{L}_{\text{attention}} &= \sum_{i,j} F'_{ij} D'_{ij}, \qquad D'_{ij} = \frac{1}{A\,n^2}
      \sum_{a=1}^{A} \left\| Z^{\mathrm S}_{i,a} - Z^{\mathrm T}_{j,a} \right\|_F^2, \qquad Z = \frac{Q
      K^{\top}}{\sqrt{d_k}} \\
    F &= \operatorname*{arg\,min}_{F \geq 0} \sum_{i,j} F_{ij} D_{ij} \quad \text{with} \quad \sum_{j} F_{ij} =
      v_{i}, \quad \sum_{i} F_{ij} = w_{j} \\
    \mathcal{L}_{\text{embedding}} &= \frac{1}{n\,d} \left\| h^{\mathrm S}_{0} W + b - h^{\mathrm T}_{0}
      \right\|_F^2 \\
    \mathcal{L}_{\text{hard}} &= -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr)
    """
    papers = (
        Paper(
            key="li2020bertemd",
            title="BERT-EMD: Many-to-Many Layer Mapping for BERT Compression with Earth Mover's Distance",
            authors="Jianquan Li, Xiaokang Liu, Honghong Zhao, Ruifeng Xu, Min Yang, Yaohong Jin",
            venue="EMNLP",
            year=2020,
            arxiv="2010.06133",
        ),
    )
    needs = Needs(student=want("logits", "hidden", "scores"), teacher=want("logits", "hidden", "scores"))
    batch_relational = True
    unlabelled = ("alpha", "beta")

    class Config(MethodConfig):
        alpha: float = alpha_field(1.0)
        temperature: float = temperature_field(1.0)
        beta: float = Field(0.01, ge=0, le=1e5, description="weight of states, attention and embedding output")
        masses: Literal["cost", "softmax", "equal"] = Field(
            "cost", description="how much a layer counts: more where it is cheap, by a softmax of that, or all alike"
        )
        mass_temperature: float = Field(
            1.0, ge=0.01, le=1e4, description="masses=softmax: how far masses are flattened"
        )
        joint_masses: bool = Field(True, description="one pair of masses for states and attention, not one for each")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        (teacher,) = setup.teachers.values()
        self.depths = setup.student.layers, teacher.layers
        self._parts: list[dict[str, tuple[Tensor, Tensor]]] = []
        if not config.beta:
            return
        same_heads(setup, "BERT-EMD compares attention head by head", "set beta to 0")
        self.projection = linear(setup.student.width, teacher.width, setup.seed)
        for kind in KINDS:
            for side, layers in zip(("student", "teacher"), self.depths, strict=True):
                self.register_buffer(f"{side}_{kind}", torch.full((layers,), 1 / layers, dtype=torch.float64))
        independent = torch.full(self.depths, 1 / (self.depths[0] * self.depths[1]), dtype=torch.float64)
        self.plans = torch.nn.ModuleDict({kind: RunningMean(independent) for kind in KINDS})

    @classmethod
    def relates_rows(cls, config: MethodConfig) -> bool:
        """One plan is made for all rows of a batch."""
        assert isinstance(config, cls.Config)
        return config.beta > 0

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """Every layer with every layer, and the embedding outputs with one another. beta = 0 matches none."""
        assert isinstance(config, cls.Config)
        return {0: (0,), **layer_map.every(student.layers, teacher.layers)} if config.beta else {}

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        layers = {"states, attention and embedding": {"beta": 0.0}} if config.beta else {}
        return without_share(config) | layers

    def stages(self) -> list[Stage]:
        if not self.config.beta:
            return [Stage("distil", Needs(want("logits"), want("logits")), self.terms, lr={"student": 1.0})]
        ours, theirs = (tuple(range(1, layers + 1)) for layers in self.depths)
        needs = Needs(
            want("logits", hidden=(0, *ours), scores=ours), want("logits", hidden=(0, *theirs), scores=theirs)
        )
        return [Stage("distil", needs, self.terms)]

    def terms(self, step: Step) -> dict[str, Term]:
        config = self.config
        terms = hard_and_soft(step, config.alpha, config.temperature)
        if not config.beta:
            return terms
        mask, (ours, theirs) = step.teacher.mask, (range(1, layers + 1) for layers in self.depths)
        states = {m: self.projection(full(rows_for_teacher(step, step.student.hidden[m]))) for m in (0, *ours)}
        scores = {m: rows_for_teacher(step, step.student.scores[m]) for m in ours}
        guides, teacher_scores = step.teacher.hidden, step.teacher.scores
        with torch.no_grad():
            costs = {
                "states": state_costs([states[m] for m in ours], [guides[n] for n in theirs], mask),
                "attention": score_costs([scores[m] for m in ours], [teacher_scores[n] for n in theirs], mask),
            }
        plans = {kind: transport_plan(each, *self._masses(kind)) for kind, each in costs.items()}
        if torch.is_grad_enabled():
            self._parts.append({kind: (plans[kind], costs[kind].double().cpu()) for kind in KINDS})
        values = {
            "states": _transport_cost(plans["states"], lambda m, n: token_mse(states[m], guides[n], mask)),
            "attention": _transport_cost(
                plans["attention"], lambda m, n: score_mse([scores[m]], [teacher_scores[n]], mask)
            ),
            "embedding": token_mse(states[0], guides[0], mask),
        }
        return {**{name: Term(value, config.beta) for name, value in values.items()}, **terms}

    # --- masses -----------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        """Gives mass to the layers that were cheap; the next step transports these."""
        if not self._parts:
            return
        mean: dict[str, tuple[Tensor, Tensor]] = {}
        for kind in KINDS:
            plans, costs = zip(*(part[kind] for part in self._parts), strict=True)
            mean[kind] = torch.stack(plans).mean(0), torch.stack(costs).mean(0)
        self._parts = []
        for kind, (plan, _) in mean.items():
            running = self.plans[kind]
            assert isinstance(running, RunningMean)
            running.update(plan)
        if self.config.masses == "equal":
            return
        for side, dim in (("student", 1), ("teacher", 0)):
            new = {kind: self._new_mass(unit_costs(plan, costs, dim)) for kind, (plan, costs) in mean.items()}
            if self.config.joint_masses:
                new = dict.fromkeys(KINDS, torch.stack(list(new.values())).mean(0))
            for kind, mass in new.items():
                if self.config.masses == "softmax":
                    mass = mass.softmax(-1)
                mass = mass.clamp(min=LEAST_MASS)
                getattr(self, f"{side}_{kind}").copy_(mass / mass.sum())

    def _new_mass(self, costs: Tensor) -> Tensor:
        """costs: of a unit of each layer's mass."""
        floor = LEAST_MASS * costs.max()
        ratio = costs.sum() / costs.clamp(min=floor) if floor > 0 else torch.ones_like(costs)
        if self.config.masses == "softmax":
            return (ratio / self.config.mass_temperature).softmax(-1)
        return ratio / ratio.sum()

    def _masses(self, kind: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"student_{kind}"), getattr(self, f"teacher_{kind}")

    # --- read-outs --------------------------------------------------------------------------------------------------

    def notes(self) -> dict[str, float]:
        """The masses of states."""
        if not self.config.beta:
            return {}
        return {
            f"{side} mass/layer {layer}": value
            for side in ("student", "teacher")
            for layer, value in enumerate(getattr(self, f"{side}_states").tolist(), start=1)
        }

    def matrices(self) -> dict[str, Tensor]:
        """How much is carried between each pair of layers, smoothed over steps; all of a matrix sums to 1."""
        if not self.config.beta:
            return {}
        return {f"transport of {kind}": self.plans[kind].mean.cpu() for kind in KINDS}  # type: ignore[misc]


def _transport_cost(plan: Tensor, distance: Callable[[int, int], Tensor]) -> Tensor:
    """sum_ij F_ij D_ij with a graph over the few pairs that the plan uses. distance: of layers, both from 1."""
    used = plan.nonzero().tolist()
    return torch.stack([plan[i, j].item() * distance(i + 1, j + 1) for i, j in used]).sum()
