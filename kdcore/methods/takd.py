"""Knowledge distillation over teacher assistants."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from kdcore.errors import UserError
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods.base import (
    Ablations,
    Build,
    Method,
    MethodConfig,
    TaskKind,
    alpha_field,
    rows_for_teacher,
    temperature_field,
    without_share,
)
from kdcore.records import Needs, Paper, Setup, Stage, Step, Term, want

STUDENT, FINAL = "student", "distil"


class TAKD(Method):
    """Teacher assistants: the teacher trains a model of middle size, that one the next smaller, the last the student.

    loss     (1 - alpha) hard + alpha soft                      for each assistant and for the student
    hard     cross-entropy with the gold label, mean over rows; for scores: (s - y)^2
    soft     T^2 KL(softmax(t / T) || softmax(s / T)), mean over rows; for scores: (s - t)^2
             t: of the teacher for the first assistant, of the assistant before for every other learner
    chain    n assistants between a teacher of N layers and a student of M: assistant i has N - i (N - M) / (n + 1)
             layers, rounded, halves up; each trains as many steps as the student, then is frozen, without dropout
    shapes   s, t: logits [batch, classes] (scores: [batch, 1]); y: [batch]
    departs
      - sources: The paper is about images (CIFAR, ImageNet); of it the abstract and the authors' code were read. BERT
        and scores (STS-B) are ours.
      - assistants: Which size an assistant should have is a question of the paper, whose answer could not be read:
        evenly spaced depths are ours, and so is that it has the student's width (a narrow student gets narrow
        assistants) and starts from where the student's weights come from.
      - alpha: The code's soft term is C times smaller (`reduction="mean"` over C classes): its lambda is our alpha =
        lambda / (lambda + C (1 - lambda)), so 0.5 there is 0.33 here for two classes.
      - temperature: T is the same in the code.
      - alpha, temperature: The code searches lambda (0.05 to 1) and T (1 to 20) anew for each model of the chain; here
        all share them, and the defaults are those of our KD, so that the two differ in the assistants alone.
      - weights that teach: An assistant's last ones, where the code takes those with the best score on the rows that it
        also reports.
      - SKDBERT: It compares with a TAKD of its own, a chain of finished teachers whose weakest teaches last; of it only
        accounts by others were read, and it is not this.
    """

    key = "takd"
    title = "Teacher assistants"
    family = "soft_targets"
    formula = r"""
    \mathcal{L}_i &= (1-\alpha)\,\mathcal{L}_{\text{hard}}(z^{(i)}) + \alpha\, T^2\,
      \mathrm{KL}\bigl(\operatorname{softmax}(z^{(i-1)}/T) \,\big\|\, \operatorname{softmax}(z^{(i)}/T)\bigr) \\
    z^{(0)} &= z^{\mathrm T}, \qquad z^{(n+1)} = z^{\mathrm S}, \qquad i = 1, \dots, n+1
    """
    papers = (
        Paper(
            key="mirzadeh2020improved",
            title="Improved Knowledge Distillation via Teacher Assistant",
            authors="Seyed Iman Mirzadeh, Mehrdad Farajtabar, Ang Li, Nir Levine, Akihiro Matsukawa, "
            "Hassan Ghasemzadeh",
            venue="AAAI",
            year=2020,
            arxiv="1902.03393",
        ),
    )
    needs = Needs(student=want("logits"), teacher=want("logits"))
    unlabelled = ("alpha",)

    class Config(MethodConfig):
        assistants: int = Field(1, ge=1, le=3, description="models in between, evenly spaced in depth; each is trained")
        alpha: float = alpha_field(0.5)
        temperature: float = temperature_field(10.0)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        (teacher,) = setup.teachers.values()
        depths = assistant_depths(setup.student.layers, teacher.layers, config.assistants)
        self.assistants = {f"assistant-{i}": layers for i, layers in enumerate(depths, start=1)}
        names = list(self.assistants)
        chain = zip([*names, STUDENT], [None, *names], strict=True)
        self._chain = dict(zip([*names, FINAL], chain, strict=True))
        """Stage -> who learns in it, and the assistant that teaches; None: the run's teacher."""

    @classmethod
    def pilots(cls, config: MethodConfig, teachers: int) -> float:
        assert isinstance(config, cls.Config)
        return float(config.assistants)

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        return without_share(config)

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        return {STUDENT: build()} | {role: build(layers=layers) for role, layers in self.assistants.items()}

    def stages(self) -> list[Stage]:
        return [self._stage(name, learner, before) for name, (learner, before) in self._chain.items()]

    def _stage(self, name: str, learner: str, before: str | None) -> Stage:
        logits = want("logits")
        return Stage(
            name,
            Needs(student=logits, by={before: logits}) if before else Needs(student=logits, teacher=logits),
            self.terms,
            lr={learner: 1.0},
            teachers=(before,) if before else None,
            students=(learner,),
            pilot=name != FINAL,
            adopt=() if learner == STUDENT else (learner,),
        )

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        _, before = self._chain[step.stage]
        return {before: None} if before else super().pick_teachers(step)

    def terms(self, step: Step) -> dict[str, Term]:
        config = self.config
        learner, _ = self._chain[step.stage]
        logits = step.students[learner].logits
        hard = hard_labels(logits, step.batch.labels, step.regression)
        soft = teacher_signal(rows_for_teacher(step, logits), step.teacher.logits, config.temperature, step.regression)
        return {"hard": Term(hard, 1 - config.alpha), "soft": Term(soft, config.alpha)}


def assistant_depths(student: int, teacher: int, count: int) -> list[int]:
    """Layers of each assistant, deepest first: strictly between the two, evenly spaced, halves rounded up.

    Raises:
        UserError: fewer than `count` depths lie between.
    """
    gap = teacher - student
    if gap <= count:
        raise UserError(
            "options.assistants",
            f"between {teacher} layers of the teacher and {student} of the student is room for {max(0, gap - 1)} "
            f"assistants, not {count}",
            "ask for fewer assistants, give the student fewer layers, or choose KD",
        )
    return [int(teacher - i * gap / (count + 1) + 0.5) for i in range(1, count + 1)]
