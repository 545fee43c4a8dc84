"""SimKD: a student whose features fit the teacher's classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from kdcore.losses.precision import full
from kdcore.methods.base import Build, Method, MethodConfig, rows_for_teacher
from kdcore.models.students import projected_student
from kdcore.records import ModelSize, Needs, Paper, Stage, Step, Term, want


class SimKD(Method):
    """SimKD: the student answers with the teacher's classifier, and learns the features that it reads and nothing else.

    loss     feature
    feature  (P(h_s) - h_t)^2, mean over width, then rows; h: output of the pooler, before dropout and classifier
    P        three linears, width -> d / reduction -> d / reduction -> d, d: width of h_t; LayerNorm and GELU after the
             first two
    answer   W P(h_s) + b; W, b: the teacher's classifier, which nothing changes
    shapes   h_s: [batch, width]; P(h_s), h_t: [batch, d], any two widths
    departs
      - sources: The authors' code and the results that they publish with it were read; of the paper only the abstract.
        The variants that reuse more of the teacher (SimKD+, SimKD++) are unverified and left out.
      - features: The paper is on images, and compares the last feature maps before they are pooled. That h is the
        pooler's output, and all else of BERT, is ours: no result of the paper is a target.
      - reduction: 2 is their default. Their P has 1x1 and 3x3 convolutions with BatchNorm and ReLU, after the last one
        too; ours has linears with LayerNorm and GELU, and ends without, since the teacher's features have signs.
      - labels: None are learned from, as in the paper; they only choose the best weights on `select`.
      - learning rate: P learns at the student's, 5e-5 by default, though it is new; the paper's rates are those of
        convolutional networks.
      - size: P and the teacher's classifier are part of the student: they are counted, timed and exported. With them it
        is of a model type of its own, `kdboard_bert`.
      - rounding: Kept features of the teacher are in half precision.
    """

    key = "simkd"
    title = "SimKD"
    family = "form"
    formula = r"""
    \mathcal{L} &= \mathcal{L}_{\text{feature}} = \frac{1}{d} \left\| P(h^{\mathrm S}) - h^{\mathrm T} \right\|_2^2 \\
    z^{\mathrm S} &= W^{\mathrm T} P(h^{\mathrm S}) + b^{\mathrm T}
    """
    papers = (
        Paper(
            key="chen2022simkd",
            title="Knowledge Distillation with the Reused Teacher Classifier",
            authors="Defang Chen, Jian-Ping Mei, Hailin Zhang, Can Wang, Yan Feng, Chun Chen",
            venue="CVPR",
            year=2022,
            arxiv="2203.14001",
        ),
    )
    needs = Needs(student=want("pooled"), teacher=want("pooled"))

    class Config(MethodConfig):
        reduction: int = Field(2, ge=1, le=64, description="r: the projection is the teacher's width over r inside")

    config: Config

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        """It learns from no label at all."""
        return True

    @classmethod
    def deployed(cls, config: MethodConfig, student: ModelSize, teachers: Mapping[str, ModelSize]) -> ModelSize:
        assert isinstance(config, cls.Config)
        width = next((size.pooled_width or size.width for size in teachers.values()), None)
        return student if width is None else replace(
            student, pooled_width=width, projection_width=max(1, width // config.reduction)
        )  # fmt: skip

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        """The run's student under the teacher's classifier."""
        (name,) = self.setup.teachers
        size = self.deployed(self.config, self.setup.student, self.setup.teachers)
        assert size.projection_width
        return {"student": projected_student(build(), build(of=name), size.projection_width, self.setup.seed)}

    def stages(self) -> list[Stage]:
        return [Stage("distil", self.needs, self.terms, lr={"student": 1.0}, frozen=("classifier",))]

    def terms(self, step: Step) -> dict[str, Term]:
        ours = rows_for_teacher(step, step.student.pooled)
        return {"feature": Term(F.mse_loss(full(ours), full(step.teacher.pooled)))}
