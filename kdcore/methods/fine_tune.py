"""The baseline: no teacher."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kdcore.losses.soft_targets import hard_labels
from kdcore.methods.base import Method
from kdcore.records import Needs, Paper, Step, Term, want


class FineTuneAlone(Method):
    """Fine-tuning without a teacher: what the student learns from the gold labels alone. The baseline of every study.

    loss     hard
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    shapes   s: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs  BERT's fine-tuning objective as published. Optimiser, schedule and initial weights are those of the
             compared runs, not of the paper. For scores the paper does not print a loss; the squared error is the
             one its users settled on.
    """

    key = "fine-tune"
    title = "Fine-tuning alone"
    paper = Paper(
        key="devlin2019bert",
        title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        authors="Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova",
        venue="NAACL",
        year=2019,
        arxiv="1810.04805",
        family="none",
    )
    needs = Needs(student=want("logits"))
    teachers = (0, 0)

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        return {}

    def terms(self, step: Step) -> dict[str, Term]:
        return {"hard": Term(hard_labels(step.student.logits, step.batch.labels, step.regression))}
