"""Dynamic knowledge distillation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.layer_map import LayerMap
from kdcore.losses.hidden import row_means
from kdcore.losses.precision import full
from kdcore.losses.soft_targets import hard_labels, logit_rows, soft_rows, uncertainty
from kdcore.methods.base import (
    Ablations,
    Method,
    MethodConfig,
    TaskKind,
    rows_for_teacher,
    same_width,
    temperature_field,
    without_weight,
)
from kdcore.methods.running_mean import RunningMean
from kdcore.methods.teacher_weights import Mixture
from kdcore.records import ModelSize, Needs, Paper, Setup, Stage, Step, Term, want


class DynamicKD(Method):
    """Dynamic KD: how unsure the student is decides who teaches, on which rows, or with which knowledge.

    loss     hard_weight hard + soft_weight soft + hidden_weight hidden
    hard     cross-entropy with the gold label, mean over rows
    soft     l, mean over rows, weighed or chosen by u as the part says
    l        (s - t)^2, mean over classes (distance=mse), or T^2 KL(softmax(t / T) || softmax(s / T)) (distance=kl)
    teachers adoption=hard: each teacher's mean over the rows that it answers, summed over teachers; the surest rows go
             to the largest teacher
             adoption=soft: u for the small teacher and 1 - u for the large one, u of the batch's mean; soft-instance: u
             of each row
    rows     soft is the mean over the share of the batch that the student is least sure of
    supervision weight 1 - u for soft
    hidden   part=supervision: u (n(h_j) - n(g_k))^2, mean over width, a row's valid tokens, then rows, sum over the
             student's layers j = 0..M, k = j N / M; n scales a token's state to length 1
    u        entropy of softmax(s) over ln of the number of classes, 0 to 1
    shapes   s, t: logits [batch, classes], at least 2 classes; u: [batch]; h, g: [batch, tokens, width], equal widths;
             y: [batch]
    departs
      - sources: The losses follow the authors' code, read whole; of the paper abstract and introduction were read, of
        its results an account by others. The grids of its settings are unverified.
      - parts: The paper studies the three by themselves, as here.
      - temperature: 5 is the code's, for distance=kl alone; its default distance is mse.
      - soft: With adoption=hard two means over half the rows are added, as in the code, which pulls twice as hard as a
        mean over all rows.
      - adoption: The code's soft variant takes one u for the batch; an account of the paper says that it takes a row's.
      - detach: The code lets the gradient through u, so that the loss also falls where u moves; the snippet in its
        README does not, and here it is a constant unless detach is off.
      - ratio: 0.5 is the script's; 0.1 is what the paper's abstract speaks of. At least one row is chosen; the code
        divides by 0 where a batch is too small.
      - selection: entropy, margin and confidence choose the same rows where there are two classes. A distance to the
        label, which the code also has, is left out.
      - teachers: For more than two, adoption=hard cuts the rows into as many parts, the least sure to the smallest
        teacher, which is by others. Size is layers times the square of the width.
      - hidden: The embedding output and the last layer count, as in the code. Padding is left out; the code's mean
        takes it in. Where N / M is not whole, k is the nearest layer.
      - rows: Rows are chosen within each part of a batch that is split. Answers that are in the cache cost nothing, so
        that the saving shows in the number of rows asked, not in time.
      - scores: A score has no entropy, so that tasks with scores are refused.
    """

    key = "dynamic-kd"
    title = "Dynamic KD"
    family = "choice"
    formula = r"""
    \mathcal{L} &= \lambda_{\text{hard}}\,\mathcal{L}_{\text{hard}} +
      \lambda_{\text{soft}}\,\mathcal{L}_{\text{soft}} + \lambda_{\text{hid}}\,\mathcal{L}_{\text{hidden}},
      \qquad u = \frac{\mathrm{H}\bigl(\operatorname{softmax}(z^{\mathrm S})\bigr)}{\ln C} \\
    \text{teachers:} \quad \mathcal{L}_{\text{soft}} &= u\, \ell(z^{\mathrm S}, z^{\mathrm T_{\text{small}}}) +
      (1-u)\, \ell(z^{\mathrm S}, z^{\mathrm T_{\text{large}}}) \\
    \text{rows:} \quad \mathcal{L}_{\text{soft}} &= \operatorname*{mean}_{\text{least sure rows}}
      \ell(z^{\mathrm S}, z^{\mathrm T}) \\
    \text{supervision:} \quad \mathcal{L}_{\text{soft}} &= (1-u)\, \ell(z^{\mathrm S}, z^{\mathrm T}) \\
    \mathcal{L}_{\text{hidden}} &= u \sum_{j=0}^{k} \frac{1}{n\,d} \sum_{i=1}^{n} \left\| \frac{h^{\mathrm
      S}_{j,i}}{\|h^{\mathrm S}_{j,i}\|_2} - \frac{h^{\mathrm T}_{J(j),i}}{\|h^{\mathrm T}_{J(j),i}\|_2}
      \right\|_2^2
    """
    papers = (
        Paper(
            key="li2021dynamic",
            title="Dynamic Knowledge Distillation for Pre-trained Language Models",
            authors="Lei Li, Yankai Lin, Shuhuai Ren, Peng Li, Jie Zhou, Xu Sun",
            venue="EMNLP",
            year=2021,
            arxiv="2109.11295",
        ),
    )
    needs = Needs(student=want("logits", "hidden"), teacher=want("logits", "hidden"))
    kinds = frozenset({"classification"})
    teachers = (1, 12)
    batch_relational = True
    unlabelled = ("soft_weight",)

    class Config(MethodConfig):
        part: Literal["teachers", "rows", "supervision"] = Field(
            "teachers",
            description="what follows uncertainty: who teaches, which rows are asked, or hidden against soft",
        )
        adoption: Literal["hard", "soft", "soft-instance"] = Field(
            "hard",
            description="part=teachers: rows are shared out, or both teach with weights of the batch or of a row",
        )
        selection: Literal["entropy", "margin", "confidence", "random", "none"] = Field(
            "entropy", description="part=rows: by what rows are chosen"
        )
        ratio: float = Field(0.5, ge=0.01, le=1, description="part=rows: share of the batch that the teacher answers")
        distance: Literal["mse", "kl"] = Field("mse", description="between logits, or between softened distributions")
        temperature: float = temperature_field(5.0)
        hard_weight: float = Field(1.0, ge=0, le=1e4, description="weight of the gold labels")
        soft_weight: float = Field(1.0, gt=0, le=1e4, description="weight of the teachers' answers")
        hidden_weight: float = Field(1.0, ge=0, le=1e4, description="part=supervision: weight of the hidden states")
        reverse: bool = Field(False, description="take the student for sure where it is unsure, for comparison")
        detach: bool = Field(True, description="take the uncertainty as a constant in the gradient")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        fewest, most = self.takes(config)
        if not fewest <= len(setup.teachers) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise UserError(
                "teachers",
                f"part={config.part} with adoption={config.adoption} takes {wanted}, not {len(setup.teachers)}",
                "change the ensemble, or these options",
            )
        sizes = {name: size.layers * size.width**2 for name, size in setup.teachers.items()}
        self.ladder = sorted(sizes, key=lambda name: sizes[name])
        """The teachers, the smallest first; of equal ones the first named."""
        self.map = layer_map.single(self.layer_map(config, setup.student, setup.teachers[self.ladder[-1]]))
        if self.map:
            same_width(setup, "Dynamic KD compares states directly")
        self.unsure = RunningMean(torch.ones(()))
        self.share = RunningMean(torch.zeros(len(self.ladder)))
        self._new: list[Tensor] = []

    @classmethod
    def takes(cls, config: MethodConfig) -> tuple[int, int]:
        assert isinstance(config, cls.Config)
        if config.part != "teachers":
            return 1, 1
        return (2, 12) if config.adoption == "hard" else (2, 2)

    @classmethod
    def relates_rows(cls, config: MethodConfig) -> bool:
        """Which rows a teacher answers, and the batch's mean of u, depend on the other rows."""
        assert isinstance(config, cls.Config)
        if config.part == "teachers":
            return config.adoption != "soft-instance"
        return config.part == "rows" and config.selection != "none"

    @classmethod
    def mixture(cls, config: MethodConfig) -> Mixture | None:
        """Which teacher answers a row, or what it weighs, follows from how unsure the student is at that step."""
        assert isinstance(config, cls.Config)
        temperature = config.temperature if config.distance == "kl" else 1.0
        if config.adoption == "hard":
            return Mixture("rows", counted="rows asked", temperature=temperature)
        return Mixture("changing", temperature=temperature)

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """All layers and the embedding output, for part=supervision with a weight of hidden states."""
        assert isinstance(config, cls.Config)
        if config.part != "supervision" or not config.hidden_weight:
            return {}
        return layer_map.alone({0: 0, **layer_map.spread(student.layers, teacher.layers)})

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        hidden = without_weight(config, hidden="hidden_weight") if config.part == "supervision" else {}
        return without_weight(config, hard="hard_weight") | hidden

    def stages(self) -> list[Stage]:
        student, teacher = want("logits"), want("logits")
        if self.map:
            student["hidden"], teacher["hidden"] = layer_map.sides(self.map)
        return [Stage("distil", Needs(student, teacher), self.terms, lr={"student": 1.0})]

    # --- who teaches which rows -------------------------------------------------------------------------------------

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        config = self.config
        if config.part == "rows" and config.selection != "none":
            order = self._order(step)
            return {self.ladder[0]: order[: max(1, int(len(order) * config.ratio))]}
        if config.part == "teachers" and config.adoption == "hard":
            order, parts = self._order(step), len(self.ladder)
            ends = [len(order) * part // parts for part in range(parts + 1)]
            shared = {name: order[ends[at] : ends[at + 1]] for at, name in enumerate(self.ladder)}
            return {name: rows for name, rows in shared.items() if len(rows)}
        return dict.fromkeys(self.ladder)

    def _order(self, step: Step) -> Tensor:
        """The rows of the batch, those first that the student is least sure of."""
        logits = full(step.student.logits.detach())
        selection = self.config.selection if self.config.part == "rows" else "entropy"
        if selection == "random":
            return torch.randperm(len(logits), generator=step.rng).to(logits.device)
        if selection == "entropy":
            doubt = uncertainty(logits)
        else:
            best = logits.softmax(-1).topk(2).values
            doubt = -(best[:, 0] - best[:, 1]) if selection == "margin" else -best[:, 0]
        return doubt.argsort(descending=not self.config.reverse, stable=True)

    # --- terms ------------------------------------------------------------------------------------------------------

    def terms(self, step: Step) -> dict[str, Term]:
        config, logits = self.config, step.student.logits
        unsure = uncertainty(logits.detach() if config.detach else logits)
        if torch.is_grad_enabled():
            self._new.append(unsure.detach().mean())
        unsure = 1 - unsure if config.reverse else unsure
        terms = {"hard": Term(hard_labels(logits, step.batch.labels, step.regression), config.hard_weight)}
        if config.part == "supervision":
            ours = rows_for_teacher(step, unsure)
            soft = (1 - ours) * self._distance(step, self.ladder[0])
            terms["soft"] = Term(soft.mean(), config.soft_weight)
            if self.map:
                terms["hidden"] = Term((ours * self._hidden(step)).mean(), config.hidden_weight)
        elif config.part == "teachers":
            weights = self._weights(unsure)
            for name in step.teachers:
                soft = self._distance(step, name)
                terms[f"soft/{name}"] = Term(
                    (soft * weights[name]).mean() if weights else soft.mean(), config.soft_weight
                )
        else:
            terms["soft"] = Term(self._distance(step, self.ladder[0]).mean(), config.soft_weight)
        return terms

    def _weights(self, unsure: Tensor) -> dict[str, Tensor]:
        """Teacher -> its weight in each row, [batch]; empty where rows are shared out."""
        if self.config.adoption == "hard":
            return {}
        unsure = unsure if self.config.adoption == "soft-instance" else unsure.mean().expand_as(unsure)
        return dict(zip(self.ladder, (unsure, 1 - unsure), strict=True))

    def _distance(self, step: Step, teacher: str) -> Tensor:
        """l of the rows that the teacher answers."""
        ours, theirs = rows_for_teacher(step, step.student.logits, teacher), step.teachers[teacher].logits
        return (
            logit_rows(ours, theirs)
            if self.config.distance == "mse"
            else soft_rows(ours, theirs, self.config.temperature)
        )

    def _hidden(self, step: Step) -> Tensor:
        """Distance of all mapped states, row by row."""
        mask, ours, theirs = step.teacher.mask, step.student.hidden, step.teacher.hidden
        apart = [
            F.normalize(full(rows_for_teacher(step, ours[j])), dim=-1) - F.normalize(full(theirs[n]), dim=-1)
            for j, n in self.map.items()
        ]
        return row_means(torch.stack([each.square().mean(-1) for each in apart]).sum(0), mask)

    # --- read-outs --------------------------------------------------------------------------------------------------

    def after_step(self, step: Step) -> None:
        """Takes in how unsure the batch was, and whom its rows (of its last part) asked."""
        if self._new:
            self.unsure.update(torch.stack(self._new).mean())
            self._new = []
        asked = {name: len(step.batch) if rows is None else len(rows) for name, rows in step.rows.items()}
        self.share.update(torch.tensor([asked.get(name, 0) / len(step.batch) for name in self.ladder]))

    def notes(self) -> dict[str, float]:
        """How unsure the student is, and the share of rows that each teacher answers, smoothed over steps."""
        shares = zip(self.ladder, self.share.mean.tolist(), strict=True)
        return {"uncertainty/mean": float(self.unsure.mean)} | {f"rows asked/{name}": share for name, share in shares}
