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
    teachers none is asked; those of the run only give initial weights and something to compare the student with
    departs
      - objective: That of BERT's fine-tuning; the squared error for scores is ours (unverified in the paper).
      - training: Optimiser, schedule, epochs and initial weights are the run's, the same for all compared methods, not
        the paper's.
    """

    key = "fine-tune"
    title = "Fine-tuning alone"
    family = "none"
    formula = r"""
    \mathcal{L} &= \mathcal{L}_{\text{hard}} = -\log \operatorname{softmax}(z^{\mathrm S})_{y}
    """
    papers = (
        Paper(
            key="devlin2019bert",
            title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
            authors="Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova",
            venue="NAACL",
            year=2019,
            arxiv="1810.04805",
        ),
    )
    needs = Needs(student=want("logits"))
    teachers = (0, 12)

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        return {}

    def terms(self, step: Step) -> dict[str, Term]:
        return {"hard": Term(hard_labels(step.student.logits, step.batch.labels, step.regression))}
