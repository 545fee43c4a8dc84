"""MT-BERT: teachers that are fine-tuned together teach one student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.layer_map import LayerMap
from kdcore.losses.hidden import token_mse
from kdcore.losses.precision import full
from kdcore.losses.soft_targets import hard_labels, logit_rows, soft_rows
from kdcore.methods.base import (
    Ablations,
    Build,
    Method,
    MethodConfig,
    TaskKind,
    one_term_less,
    temperature_field,
)
from kdcore.methods.running_mean import RunningMean
from kdcore.methods.teacher_weights import Mixture
from kdcore.models.anatomy import anatomy
from kdcore.models.projections import linears
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want

TOGETHER = "together"


class MTBERT(Method):
    """MT-BERT: teachers are fine-tuned together under one head; then all teach, each less where it is wrong.

    loss     together stage: hard
             distil stage: hard_weight hard + soft_weight soft + hidden_weight hidden
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2; together: of each teacher, their
             sum
    soft     w_k T^2 KL(softmax(t_k / T) || softmax(s / T)), mean over rows, sum over teachers k; for scores:
             w_k (s - t_k)^2
    weight   w_k = 1 / (1 + c_k), of each row: c_k the cross-entropy of softmax(t_k) with the gold label; for scores:
             (t_k - y)^2. by_error off: 1
    hidden   (h_j - g_k,m(j) W_k - b_k)^2, mean over width, a row's valid tokens, then rows, sum over the student's
             layers j = 1..M and over teachers; m(j) = j N / M
    head     pooler and classifier, which are one for all teachers from the first step of the stage together on; they
             start as the first teacher's
    shapes   h: [batch, tokens, student's width]; g: [batch, tokens, teachers' width]; s, t: logits [batch, classes]
             (scores: [batch, 1]); y: [batch]; teachers of one width and one kind of encoder
    departs
      - sources: Of the paper the abstract and the introduction were read, the authors' repository holds no code. The
        equations are those of a re-implementation by others that calls itself similar; none of the paper's numbers and
        settings could be read.
      - together: That pooler and classifier are shared is the paper's; that the losses of all teachers are summed, how
        long they train and that the weights of the lowest loss on `select` are taken are unverified. The paper's pooler
        may attend to all tokens. Ours start from teachers that are fine-tuned already, each by itself.
      - soft: The re-implementation has the plain cross-entropy with softmax(t_k / T), which has the gradient of our KL
        over T^2; at its T = 1 they are the same.
      - weights: 1 for each term, sums over teachers that are not divided by their number, are the re-implementation's.
      - hidden: W acts on the teacher's side, one for all layers of a teacher, as in its published run; there W has no
        bias and its mean goes over padding too. W starts as the identity where widths are equal.
      - layers: An even spread that ends at the last layer is the re-implementation's; where N / M is not whole, m(j) is
        the nearest layer.
      - student: How the paper's starts, and whether it takes the teachers' head, is unverified; ours has its own, as
        its start has it.
      - teachers: The paper's may have other vocabularies; here all share the student's.
      - scores: The squared error in place of the cross-entropy is ours, in w_k too.
    """

    key = "mt-bert"
    title = "MT-BERT"
    family = "choice"
    formula = r"""
    \mathcal{L}_{\text{together}} &= \sum_{k=1}^{K} -\log \operatorname{softmax}(z^{\mathrm T_k})_{y} \\
    \mathcal{L}_{\text{distil}} &= \lambda_{\text{hard}}\,\mathcal{L}_{\text{hard}} +
      \lambda_{\text{soft}}\,\mathcal{L}_{\text{soft}} + \lambda_{\text{hid}}\,\mathcal{L}_{\text{hidden}}, \qquad
      \mathcal{L}_{\text{hard}} = -\log \operatorname{softmax}(z^{\mathrm S})_{y} \\
    \mathcal{L}_{\text{soft}} &= \sum_{k} w_{k}\, T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T_k}/T)
      \,\big\|\, \operatorname{softmax}(z^{\mathrm S}/T)\bigr), \qquad w_{k} = \frac{1}{1 - \log
      \operatorname{softmax}(z^{\mathrm T_k})_{y}} \\
    \mathcal{L}_{\text{hidden}} &= \sum_{k} \sum_{j=1}^{M} \frac{1}{n\,d} \left\| h^{\mathrm S}_{j} - h^{\mathrm
      T_k}_{m(j)} W_{k} - b_{k} \right\|_F^2
    """
    papers = (
        Paper(
            key="wu2021one",
            title="One Teacher is Enough? Pre-trained Language Model Distillation from Multiple Teachers",
            authors="Chuhan Wu, Fangzhao Wu, Yongfeng Huang",
            venue="Findings of ACL-IJCNLP",
            year=2021,
            arxiv="2106.01023",
        ),
    )
    needs = Needs(student=want("logits", "hidden"), teacher=want("logits", "hidden"))
    teachers = (2, 4)

    class Config(MethodConfig):
        together: float = Field(
            1.0, ge=0, le=10, description="steps in which the teachers learn under one head, in multiples of the run's"
        )
        by_error: bool = Field(True, description="a teacher counts less on rows where it is wrong")
        temperature: float = temperature_field(1.0)
        hard_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the gold labels")
        soft_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the teachers' answers")
        hidden_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the token states")
        projection: Literal["shared", "per-layer"] = Field(
            "shared", description="one map of states a teacher, or one for each of the student's layers"
        )

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.guides = {f"teacher-{name}" if config.together else name: name for name in setup.teachers}
        """Who teaches -> the run's teacher that it is, or starts as."""
        if config.together:
            _check_one_head(setup)
        self.maps = {
            guide: layer_map.single(self.layer_map(config, setup.student, setup.teachers[name]))
            for guide, name in self.guides.items()
        }
        if config.hidden_weight:
            places = ["all"] if config.projection == "shared" else [str(j) for j in range(1, setup.student.layers + 1)]
            widths = [size.width for size in setup.teachers.values()]
            seeds = range(setup.seed, setup.seed + len(widths))
            both = zip(widths, seeds, strict=True)
            self.projections = nn.ModuleList(
                [linears(places, width, setup.student.width, seed) for width, seed in both]
            )
        self.weight = RunningMean(torch.ones(len(self.guides)))
        self._new: list[Tensor] = []

    @classmethod
    def pilots(cls, config: MethodConfig, teachers: int) -> float:
        assert isinstance(config, cls.Config)
        return config.together

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        assert isinstance(config, cls.Config)
        return layer_map.alone(layer_map.spread(student.layers, teacher.layers)) if config.hidden_weight else {}

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        terms = one_term_less(config, hard="hard_weight", soft="soft_weight", hidden="hidden_weight")
        weights: Ablations = {"weights by error": {"by_error": False}} if config.by_error and config.soft_weight else {}
        return terms | weights | ({f"stage {TOGETHER}": {"together": 0.0}} if config.together else {})

    @classmethod
    def mixture(cls, config: MethodConfig) -> Mixture | None:
        assert isinstance(config, cls.Config)
        return Mixture("changing", temperature=config.temperature) if config.soft_weight else None

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        student = {"student": build()}
        if not self.config.together:
            return student
        copies = {guide: build(of=name) for guide, name in self.guides.items()}
        first, *others = (anatomy(model) for model in copies.values())
        for other in others:
            _share(first.pooler, other.pooler)
            _share(first.classifier, other.classifier)
        return student | copies

    def stages(self) -> list[Stage]:
        ours, by = want("logits"), {guide: want("logits") for guide in self.guides}
        if self.config.hidden_weight:
            ours["hidden"] = tuple(range(1, self.setup.student.layers + 1))
            for guide, mapped in self.maps.items():
                by[guide]["hidden"] = layer_map.sides(mapped)[1]
        names = tuple(self.guides)
        distil = Stage(
            "distil", Needs(ours, want("logits"), by=by), self.terms, teachers=names, students=("student",)
        )  # fmt: skip
        if not self.config.together:
            return [distil]
        together = Stage(
            TOGETHER, Needs(want("logits")), self.together, self.config.together, dict.fromkeys(names, 1.0),
            teachers=(), students=names, pilot=True, judge="loss", ends="best", adopt=names,
        )  # fmt: skip
        return [together, distil]

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        return dict.fromkeys(self.guides)

    # --- terms ------------------------------------------------------------------------------------------------------

    def together(self, step: Step) -> dict[str, Term]:
        """The first stage's term: each teacher's own loss under the head that they share."""
        labels, regression = step.batch.labels, step.regression
        each = [hard_labels(said.logits, labels, regression) for said in step.students.values()]
        return {"hard": Term(torch.stack(each).sum())}

    def terms(self, step: Step) -> dict[str, Term]:
        """The second stage's terms."""
        config, logits = self.config, step.student.logits
        weights = [self._weight(step, guide) for guide in self.guides]
        if torch.is_grad_enabled():
            self._new.append(torch.stack([weight.mean() for weight in weights]))
        distances = [self._distance(logits, step.teachers[guide].logits, step.regression) for guide in self.guides]
        soft = [(weight * distance).mean() for weight, distance in zip(weights, distances, strict=True)]
        terms = {
            "hard": Term(hard_labels(logits, step.batch.labels, step.regression), config.hard_weight),
            "soft": Term(torch.stack(soft).sum(), config.soft_weight),
        }
        return terms | ({"hidden": Term(self._hidden(step), config.hidden_weight)} if config.hidden_weight else {})

    def _weight(self, step: Step, guide: str) -> Tensor:
        """w of each row, [batch]."""
        logits, labels = full(step.teachers[guide].logits), step.batch.labels
        if not self.config.by_error:
            return torch.ones_like(logits[:, 0])
        if step.regression:
            return 1 / (1 + (logits[:, 0] - labels.to(logits)).square())
        return 1 / (1 + F.cross_entropy(logits, labels, reduction="none"))

    def _distance(self, ours: Tensor, theirs: Tensor, regression: bool) -> Tensor:
        """Of the answers, row by row: [batch]."""
        return logit_rows(ours, theirs) if regression else soft_rows(ours, theirs, self.config.temperature)

    def _hidden(self, step: Step) -> Tensor:
        """Distance of all mapped states to all teachers."""
        apart = []
        for (guide, mapped), projections in zip(self.maps.items(), self.projections, strict=True):
            states = step.teachers[guide].hidden
            for j, n in mapped.items():
                project = projections["all" if self.config.projection == "shared" else str(j)]  # type: ignore[index]
                apart.append(token_mse(step.student.hidden[j], project(full(states[n])), step.student.mask))
        return torch.stack(apart).sum()

    def learners(self) -> Mapping[str, tuple[str, ...]]:
        return {"teachers": tuple(self.guides)} if self.config.together else {}

    # --- read-outs --------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        if self._new:
            self.weight.update(torch.stack(self._new).mean(0))
            self._new = []

    def notes(self) -> dict[str, float]:
        """Each teacher's weight, mean over rows, smoothed over steps."""
        if not int(self.weight.count):
            return {}
        named = zip(self.guides.values(), self.weight.mean.tolist(), strict=True)
        return {f"mean weight/{name}": weight for name, weight in named}


def _share(one: nn.Module, other: nn.Module) -> None:
    """Gives the other module the parameters of the first, which are one from then on."""
    for name, parameter in one.named_parameters():
        path, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(path), leaf, parameter)


def _head(size: ModelSize) -> str:
    """What stands on the encoder: `plain`, or SimKD's projection and the width behind it."""
    return f"projected to {size.pooled_width}" if size.projection_width else "plain"


def _check_one_head(setup: Setup) -> None:
    """Raises UserError where one pooler and classifier cannot serve all teachers."""
    for what, kinds in (
        ("width", {name: str(size.width) for name, size in setup.teachers.items()}),
        ("kind", {name: size.model_type for name, size in setup.teachers.items()}),
        ("head", {name: _head(size) for name, size in setup.teachers.items()}),
    ):
        if len(set(kinds.values())) > 1:
            listed = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            raise UserError(
                "teachers", f"MT-BERT's teachers share pooler and classifier, but they differ in {what}: {listed}",
                f"choose teachers of one {what}, or set together to 0",
            )  # fmt: skip
