"""What a method is: its settings, what it reads, its terms. One file a method; the engine never asks which it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import Optimizer

from kdcore.errors import UserError
from kdcore.events import Progress
from kdcore.fields import tune
from kdcore.layer_map import LayerMap
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods.teacher_weights import Mixture
from kdcore.records import Batch, Family, ModelSize, Needs, Paper, Setup, Stage, Step, TeacherAnswers, Term

if TYPE_CHECKING:
    from kdcore.config import RunConfig

Ablations = dict[str, dict[str, Any]]
"""Part of a method -> the options that leave it out."""

TaskKind = Literal["classification", "regression"]


class Build(Protocol):
    """Makes a model of the run's StudentSpec with its initial weights.

    layers: another depth. draw: other new weights, for several students of a kind; what comes from a teacher or base is
    the same in all. of: a teacher's name; a copy of it in place of a student, to be trained or taken apart.
    """

    def __call__(self, layers: int | None = None, draw: int = 0, of: str | None = None) -> nn.Module: ...


class MethodConfig(BaseModel):
    """A method's settings: default, bounds and description of each field make the form, the flags and the docs."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(nn.Module):
    """Base of every distillation method.

    It is a module so that projections, policies and buffers travel with checkpoints, devices and optimisers; students
    and teachers are not its children. A subclass is read by people: its docstring holds the idea in one sentence, then
    a block of `loss`, one line per term, `shapes`, and `departs`: a list of `- topic: text`, the topic a setting's name
    where there is one (how it differs from the paper, and how the paper's weights convert to ours). `docs.read` takes
    it apart for the dashboard. `catalog` reads key, title, family, formula and papers from the text of the
    file: keep them literals.
    """

    key: ClassVar[str]
    """The method's name in settings, flags and links."""
    title: ClassVar[str]
    """Its name on the screen."""
    family: ClassVar[Family]
    """What it is about."""
    formula: ClassVar[str] = ""
    """Its loss for a task with labels, in the TeX of KaTeX: lines of `aligned`. Upright S and T: student, teacher."""
    papers: ClassVar[tuple[Paper, ...]]
    """Where it comes from, the first before those that change it; empty where it is nobody's."""
    needs: ClassVar[Needs]
    """Which kinds of tensor it reads (shown to people; a stage's `needs` says at which layers)."""
    kinds: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})
    """Kinds of task it has a meaning for."""
    teachers: ClassVar[tuple[int, int]] = (1, 1)
    """Fewest and most teachers it takes with any settings; `takes` says it for some."""
    batch_relational: ClassVar[bool] = False
    """Whether any settings relate rows of a batch to one another; `relates_rows` says it for some."""
    other_tasks: ClassVar[tuple[int, int]] = (0, 0)
    """Fewest and most other tasks whose rows it learns from (`RunConfig.also`, `Stage.task_power`)."""
    domains: ClassVar[bool] = False
    """Whether it needs to know which domain each row is of (`Batch.source`), of two at least."""
    unlabelled: ClassVar[tuple[str, ...]] = ()
    """Options that weigh terms which need no label. Where one counts, it learns from rows without a label too."""
    config: MethodConfig

    class Config(MethodConfig):
        """No settings."""

    def __init__(self, config: MethodConfig, setup: Setup) -> None:
        """Builds the method for one run.

        Raises:
            UserError: settings and shapes do not go together (a layer map that does not fit, widths that differ).
        """
        super().__init__()
        self.config = config
        self.setup = setup
        self.optimizers: dict[str, Optimizer] = {}

    # --- required -----------------------------------------------------------------------------------------------

    def terms(self, step: Step) -> dict[str, Term]:
        """The loss of one step as named terms: scalars in float32, each with its weight."""
        raise NotImplementedError

    # --- seams, each with the default that most methods want ------------------------------------------------------

    def stages(self) -> list[Stage]:
        """The parts of training; one stage by default."""
        return [Stage("distil", self.needs, self.terms)]

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        """Named models to train; `build()` makes one of the run's StudentSpec with its initial weights.

        The first is the deployable one: evaluated, timed, counted and exported. Tied parameters stay tied while it
        trains, count once, and are exported as copies.
        """
        return {"student": build()}

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        """Teacher -> rows of the batch it answers (None: all). The students have run, the teachers have not."""
        names = self.setup.teachers
        return dict.fromkeys(names)

    def stream(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches to train on; an augmented stream yields new rows with negative ids (they bypass the cache).

        Where it brings words that the training rows do not hold, `alters_words` says so.
        """
        return batches

    @property
    def alters_words(self) -> bool:
        """Whether words come that the training rows do not hold, by `stream` or `look_up`; else only the vectors of
        these rows' words are trained.

        Asked after `before_stage`.
        """
        return False

    def before_stage(self, stage: str, teachers: TeacherAnswers) -> Iterator[Progress] | None:
        """Called when the stage's teachers are ready, and again where a resumed run goes on inside the stage.

        What takes long is a generator that yields how far it is: people see it, and may stop the run there, which then
        begins the preparation anew.
        """
        return None

    def own_optimizers(self) -> dict[str, Optimizer]:
        """Optimisers of modules of the method that learn by a rule of their own, in `after_step`, by name.

        Asked once, on the training's device; from then on they are `self.optimizers`. Stages leave their parameters
        alone, also those that are frozen or clipped, and checkpoints keep them.
        """
        return {}

    def after_step(self, step: Step) -> None:
        """Called after the optimiser step, with the batch's last part.

        What all parts of a batch saw is collected in `terms`, where gradients are on, and used up here.
        """

    def after_stage(self, stage: str, scores: Mapping[str, float]) -> None:
        """Called with the stage's best scores on `select`."""

    def notes(self) -> dict[str, float]:
        """Plottable read-outs that are not losses, such as how often each teacher was drawn."""
        return {}

    def matrices(self) -> dict[str, Tensor]:
        """Read-outs [student layers, teacher layers], such as how much each pair of layers counts; both from layer 1.

        They are asked for at every evaluation and kept as the probe "matrices", so they belong into buffers.
        """
        return {}

    def learners(self) -> Mapping[str, tuple[str, ...]]:
        """Name -> roles of `build_students()` whose scores tell something beside the student's: each is scored once the
        run is over, with the weights that it has then, and several of one name as the mean of their answers, too."""
        return {}

    def history(self) -> dict[str, object]:
        """JSON-able state beyond tensors, for the checkpoint; `restore_history` takes it back."""
        return {}

    def restore_history(self, history: Mapping[str, object]) -> None:
        """Puts back what `history()` gave."""

    # --- for the pages, before anything is built -------------------------------------------------------------------

    @classmethod
    def takes(cls, config: MethodConfig) -> tuple[int, int]:
        """Fewest and most teachers with these settings."""
        return cls.teachers

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        """Whether it learns from rows without a label, by the teacher's answers. Else it is given labelled rows alone.

        Labels of such rows are -1 or NaN: they go nowhere but into `hard_labels`. A stage that learns from labels alone
        says so (`Stage.labelled`).
        """
        return any(getattr(config, option) for option in cls.unlabelled)

    @classmethod
    def relates_rows(cls, config: MethodConfig) -> bool:
        """Whether terms relate rows of a batch to one another, so that batch composition changes them."""
        return cls.batch_relational

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        """Student layer -> teacher layers that it is matched with; empty where the method matches none."""
        return {}

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        """What these settings can do without, for a repeat that shows what it brings.

        Terms are keys by their name, stages as `stage NAME`, anything else in words. What is off already is left out,
        and so is a term that is all that its stage learns from.

        Args:
            kind: of the task.
        """
        return {}

    @classmethod
    def mixture(cls, config: MethodConfig) -> Mixture | None:
        """How the answers of several teachers become soft targets; None where they become none."""
        return None

    @classmethod
    def warnings(cls, run: RunConfig) -> Iterable[UserError]:
        """Settings with which the method does little of what it is for; a run starts all the same."""
        return ()

    @classmethod
    def deployed(cls, config: MethodConfig, student: ModelSize, teachers: Mapping[str, ModelSize]) -> ModelSize:
        """The size of the model that the method makes of a student of this size: what is run, timed and exported.

        Args:
            teachers: the run's, by name; there may be other numbers of them than the method takes.
        """
        return student

    @classmethod
    def pilots(cls, config: MethodConfig, teachers: int) -> float:
        """Extra trainings the method runs to inform the real one (or to make its teacher), in multiples of it."""
        return 0.0


def alpha_field(default: float) -> Any:
    """The setting that most methods weigh teacher and gold labels by."""
    words = "weight of the soft targets; the hard labels get the rest"
    return Field(default, ge=0, le=1, description=words, json_schema_extra=tune(0.1, 1.0))


def hard_label_weight_field() -> Any:
    """The setting of methods that weigh the gold labels, none by default, and give the teachers the rest."""
    return Field(0.0, ge=0, le=1, description="weight of the hard labels; soft gets the rest")


def has_soft_targets(config: MethodConfig, hard: str = "hard_label_weight") -> bool:
    """Whether the teachers' answers weigh anything beside the gold labels.

    Args:
        hard: the option with the weight of the gold labels.
    """
    return bool(getattr(config, hard) < 1)


def temperature_field(default: float) -> Any:
    """The setting that most methods soften logits by."""
    words = "T: how far both distributions are flattened"
    return Field(default, ge=0.1, le=100, description=words, json_schema_extra=tune(1.0, 20.0, log=True))


def rows_for_teacher(step: Step, tensor: Tensor, teacher: str | None = None) -> Tensor:
    """The rows of a student's tensor [batch, ...] that a teacher answers, in the teacher's order.

    teacher: its name; None: the step's only one.
    """
    (rows,) = step.rows.values() if teacher is None else (step.rows[teacher],)
    return tensor if rows is None else tensor[rows]


def hard_and_soft(step: Step, alpha: float, temperature: float) -> dict[str, Term]:
    """The two terms that most methods end with: gold labels at weight 1 - alpha, the only teacher's answer at alpha."""
    logits = step.student.logits
    hard = hard_labels(logits, step.batch.labels, step.regression)
    soft = teacher_signal(rows_for_teacher(step, logits), step.teacher.logits, temperature, step.regression)
    return {"hard": Term(hard, 1 - alpha), "soft": Term(soft, alpha)}


def without_share(config: MethodConfig, share: str = "alpha", above: str = "soft", rest: str = "hard") -> Ablations:
    """Two terms that share a weight of 1, each without the other; none where one has all of it already.

    Args:
        share: the option with the weight of the term `above`; `rest` has what is left.
    """
    both = 0 < getattr(config, share) < 1
    return {rest: {share: 1.0}, above: {share: 0.0}} if both else {}


def without_weight(config: MethodConfig, **options: str) -> Ablations:
    """Terms beside others that stay: each that counts, at weight 0.

    Args:
        options: term -> the option that weighs it.
    """
    return {term: {option: 0.0} for term, option in options.items() if getattr(config, option)}


def one_term_less(config: MethodConfig, **options: str) -> Ablations:
    """Terms of a sum that has no others: each that counts, at weight 0; none where it is the last one.

    Args:
        options: term -> the option that weighs it.
    """
    without = without_weight(config, **options)
    return without if len(without) > 1 else {}


def without_stage(config: MethodConfig, stage: str, share: str, **options: str) -> Ablations:
    """A stage whose terms are a sum of their own: each term less, and the stage itself; none where it does not run.

    Args:
        share: the option with its share of the steps. options: term -> the option that weighs it.
    """
    if not getattr(config, share) or not without_weight(config, **options):
        return {}
    return one_term_less(config, **options) | {f"stage {stage}": {share: 0.0}}


def same_heads(setup: Setup, why: str, otherwise: str) -> None:
    """Raises UserError where a teacher has another number of attention heads than the student.

    Args:
        otherwise: what to do in place of giving the student the teacher's number.
    """
    for name, size in setup.teachers.items():
        if size.heads != setup.student.heads:
            raise UserError(
                "student.heads",
                f"{why}, but the student's {setup.student.heads} heads differ from {size.heads} of teacher {name}",
                f"give the student {size.heads} heads, or {otherwise}",
            )


def same_width(setup: Setup, why: str) -> None:
    """Raises UserError where a teacher's hidden size differs from the student's."""
    for name, size in setup.teachers.items():
        if size.width != setup.student.width:
            raise UserError(
                "student.width",
                f"{why}, but the student's width {setup.student.width} differs from {size.width} of teacher {name}",
                "give the student the teacher's width, or choose a method that projects",
            )
