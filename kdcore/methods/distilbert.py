"""DistilBERT's loss, used while fine-tuning on the task."""

from __future__ import annotations

from pydantic import Field

from kdcore.losses.hidden import cosine
from kdcore.methods.base import Method, MethodConfig, answered, hard_and_soft, same_width
from kdcore.records import Needs, Paper, Setup, Shape, Stage, Step, Term, want


class DistilBERT(Method):
    """DistilBERT's loss at the fine-tuning stage: soft targets, and last hidden states that point the same way.

    loss     (1 - alpha) hard + alpha soft + cosine_weight cosine
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
    cosine   1 - cos(h_s, h_t) of the last layers, mean over a row's valid tokens, then over rows
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); h: [batch, tokens, width], equal widths; y: [batch]
    departs  The paper distils while pre-training, on masked words of a large corpus. Here the task's rows take the
             corpus' place, the logits are the task's, and the masked-language-model term is absent: the hard labels
             stand where it stood. The authors' weights 5 (soft), 2 (masked words), 1 (cosine) are divided by 7, which
             gives alpha 0.71 and cosine 0.14; T = 2 is theirs. They average the cosine over all valid tokens of the
             batch, we average within a row first, so that a long row weighs no more than a short one. No paper
             settings exist for this use, nor for scores. The paper's initial weights (every second layer of the
             teacher) are a choice of the run, not of the method.
    """

    key = "distilbert"
    title = "DistilBERT loss"
    paper = Paper(
        key="sanh2019distilbert",
        title="DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
        authors="Victor Sanh, Lysandre Debut, Julien Chaumond, Thomas Wolf",
        venue="NeurIPS EMC2 Workshop",
        year=2019,
        arxiv="1910.01108",
        family="hidden",
    )
    needs = Needs(student=want("logits", "hidden"), teacher=want("logits", "hidden"))

    class Config(MethodConfig):
        alpha: float = Field(0.71, ge=0, le=1, description="weight of the soft targets; the hard labels get the rest")
        temperature: float = Field(2.0, ge=0.1, le=100, description="T: how far both distributions are flattened")
        cosine_weight: float = Field(0.14, ge=0, le=100, description="weight of the direction of last hidden states")

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        if config.cosine_weight:
            same_width(setup, "the cosine term compares hidden states directly")

    @classmethod
    def layer_map(cls, config: MethodConfig, student: Shape, teacher: Shape) -> dict[int, int]:
        """The last layers, unless their weight is 0."""
        assert isinstance(config, cls.Config)
        return {student.layers: teacher.layers} if config.cosine_weight else {}

    def stages(self) -> list[Stage]:
        if not self.config.cosine_weight:
            return [Stage("distil", Needs(student=want("logits"), teacher=want("logits")), self.terms)]
        needs = Needs(
            student=want("logits", hidden=(self._last_student(),)),
            teacher=want("logits", hidden=(self._last_teacher(),)),
        )
        return [Stage("distil", needs, self.terms)]

    def terms(self, step: Step) -> dict[str, Term]:
        config, student, teacher = self.config, step.student, step.teacher
        terms = hard_and_soft(step, config.alpha, config.temperature)
        if config.cosine_weight:
            ours = answered(step, student.hidden[self._last_student()])
            apart = cosine(ours, teacher.hidden[self._last_teacher()], answered(step, student.mask))
            terms["cosine"] = Term(apart, config.cosine_weight)
        return terms

    def _last_student(self) -> int:
        return self.setup.student.layers

    def _last_teacher(self) -> int:
        return next(iter(self.setup.teachers.values())).layers
