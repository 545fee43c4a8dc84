"""The plain records that travel between packages. No logic but the guard that makes undeclared tensors an error."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from kdcore.batch import NO_WORD as NO_WORD
from kdcore.batch import Batch as Batch
from kdcore.batch import Encoding as Encoding
from kdcore.errors import UndeclaredTensorError
from kdcore.events import Progress
from kdcore.tensors import ALL_LAYERS as ALL_LAYERS
from kdcore.tensors import ROW_LEVEL as ROW_LEVEL
from kdcore.tensors import TENSORS as TENSORS
from kdcore.tensors import Want as Want
from kdcore.tensors import want as want

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from kdcore.tasks import Task


@dataclass(frozen=True)
class Needs:
    """Which tensors a stage reads from the students and from the teachers; nothing else is computed.

    rerun: "student", "teacher": whose outputs the stage runs again to differentiate them (`Outputs.rerun`).
    passes, gradients: how often a step runs each of them again, and how many gradients it takes of each such pass; what
        a run will cost is told from them.
    order: 2: a student's gradients are part of the loss, and so are differentiated again; 1: they only say where its
        last pass is taken.
    by: role or teacher's name -> what is read of it, where that differs from what is read of the others.
    """

    student: Want = field(default_factory=dict)
    teacher: Want = field(default_factory=dict)
    rerun: tuple[Literal["student", "teacher"], ...] = ()
    by: Mapping[str, Want] = field(default_factory=dict)
    passes: int = 1
    gradients: int = 1
    order: Literal[1, 2] = 2

    def of_student(self, role: str) -> Want:
        """What is read of this role's model."""
        return self.by.get(role, self.student)

    def of_teacher(self, name: str) -> Want:
        """What is read of this teacher; where it is nothing, the teacher is not asked."""
        return self.by.get(name, self.teacher)


class Rerun(Protocol):
    """A second forward pass over the rows of some outputs, and the model's word embeddings."""

    def __call__(self, words: Tensor | None, first: Tensor | None, still: bool, whole: bool = False) -> Outputs: ...

    def words(self, ids: Tensor, shares: Tensor | None) -> Tensor: ...


class Outputs:
    """What was observed of one model on one batch. Reading a tensor nobody declared raises, naming what was.

    Attributes are the names of TENSORS; those with layers are dicts from layer to tensor.
    `mask` is the batch's attention mask [batch, tokens], 1 = a real token; it is always there.
    """

    def __init__(
        self,
        tensors: Mapping[str, Any],
        mask: Tensor,
        rerun: Rerun | None = None,
    ) -> None:
        self._tensors = dict(tensors)
        self.mask = mask
        self._rerun = rerun

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self.__dict__["_tensors"][name]
        except KeyError:
            declared = sorted(self.__dict__.get("_tensors", ()))
            raise UndeclaredTensorError(
                f"{name!r} was not declared in this stage's needs; declared: {declared}"
            ) from None

    def names(self) -> list[str]:
        """The declared tensors."""
        return sorted(self._tensors)

    def rerun(
        self, words: Tensor | None = None, first: Tensor | None = None, still: bool = False, whole: bool = False
    ) -> Outputs:
        """The same rows once more, in float32, with a graph that can be differentiated twice.

        What was declared is there again, and `embeddings` and `hidden` of every layer but the last, which is there
        with `whole`, or where the stage's needs name it. Where nothing that layer 0 depends on has a graph (a frozen
        model, a student whose embeddings are frozen), it is a leaf.

        Args:
            words: word embeddings [batch, tokens, width] in place of those of the ids.
            first: the embedding output [batch, tokens, width], layer 0, in place of the model's own.
            still: without dropout.
            whole: with the last layer's states of all tokens; else only what is declared of it is computed.

        Raises:
            UndeclaredTensorError: the stage's needs do not name these outputs in `rerun`.
        """
        return self._again()(words, first, still, whole)

    def look_up(self, ids: Tensor, shares: Tensor | None = None) -> Tensor:
        """Word embeddings of any ids, or mixtures of them, with a graph where the model learns.

        A method that looks up words outside the training rows says so by `alters_words`.

        Args:
            ids: int64 [..., k].
            shares: of each of the k words, [..., k]; None: nothing is mixed.

        Returns:
            [..., k, width]; with shares their weighted sum, [..., width].

        Raises:
            UndeclaredTensorError: the stage's needs do not name these outputs in `rerun`.
        """
        return self._again().words(ids, shares)

    def with_rerun(self, rerun: Rerun) -> Outputs:
        """The same outputs, to be run again so."""
        return Outputs(self._tensors, self.mask, rerun)

    def with_tensors(self, tensors: Mapping[str, Any]) -> Outputs:
        """Other tensors of the same rows, to be run again as these are."""
        return Outputs(tensors, self.mask, self._rerun)

    def _again(self) -> Rerun:
        if self._rerun is None:
            raise UndeclaredTensorError("these outputs are not declared in `rerun` of this stage's needs")
        return self._rerun


@dataclass(frozen=True)
class Term:
    """One term of the loss: its raw value (a scalar tensor, float32) and the weight it enters the sum with.

    weight: a number, or a scalar tensor without a graph where it follows from the batch; it may differ in each step.
    """

    value: Tensor
    weight: float | Tensor = 1.0


class Probe(Protocol):
    """Loss and scores of a stage's learner on `select`, or on its rows of one domain (`Batch.source`)."""

    def __call__(self, source: int | None = None) -> Mapping[str, float]: ...


def _no_probe(source: int | None = None) -> Mapping[str, float]:
    raise ValueError("only `after_step` of a training can probe")


@dataclass(frozen=True, kw_only=True)
class Step:
    """All that a method sees of one training step. `pick_teachers` sees it without teachers and rows.

    Where `accumulate` splits a batch, there is one of each part, with the same number and the same draws.

    teachers: for each teacher picked, what was observed of it on its rows.
    rows: for each teacher picked, int64 indices into the batch, or None for all rows.
    step, steps: of the stage, counted from 1, and how many it has.
    rng: CPU generator for teacher draws, of its own so that drawing changes neither data order nor dropout.
    probe: "loss" against the gold labels, and the scores, of the stage's learner on `select` as it is now, or on its
        rows of one domain. It costs a pass over these rows; for `after_step` alone.
    """

    batch: Batch
    students: Mapping[str, Outputs]
    teachers: Mapping[str, Outputs] = field(default_factory=dict)
    rows: Mapping[str, Tensor | None] = field(default_factory=dict)
    stage: str
    step: int
    steps: int
    epoch: float
    rng: Generator
    regression: bool
    probe: Probe = _no_probe

    @property
    def student(self) -> Outputs:
        """The only student, for the many methods that train one."""
        return self.students["student"]

    @property
    def teacher(self) -> Outputs:
        """The only teacher of this step.

        Raises:
            ValueError: the method must say which of several it means.
        """
        if len(self.teachers) != 1:
            raise ValueError(f"this step has {len(self.teachers)} teachers, name one: {sorted(self.teachers)}")
        return next(iter(self.teachers.values()))


Terms = Callable[[Step], dict[str, Term]]

Part = Literal["embeddings", "pooler", "classifier"]
"""Parts of a student. embeddings: all that comes before its first layer."""


@dataclass(frozen=True)
class Stage:
    """A part of training with its own terms.

    share: part of the run's student steps (`TrainConfig`) that this stage takes. The shares of a run's stages sum to
        1; what a method spends beyond (`pilot=True`: trainings that only inform the real one) is priced before start.
    lr: role -> factor on the run's learning rate. Roles are the names of `build_students()` and "method" for the
        method's own modules; a role that is not named is frozen.
    start: where the weights of the students that it trains come from: "last" (go on), or "fresh" (the run's initial
        weights again).
    ends: with which weights its learners go on: the last, or all those of the moment when `select` was best.
    adopt: roles that are teachers of this name once the stage is over, with the weights that it ends with. Later stages
        that name them in `teachers` ask them like the others, from the cache.
    teachers: names of those this stage uses; None: all that the run has, without those that it made itself.
    students: roles that run in this stage; None: all. One that is not in `lr` is frozen: it runs in eval mode, and
        nothing of it has a graph. The first that is trained is the one that is scored.
    judge: what decides on `select` which weights are the stage's best: the task's main metric, or the stage's own
        loss, where the classifier is not trained yet and a score would say nothing.
    probes: how often the method probes in this stage (`Step.probe`), for the price. probe_rows: on how many rows each
        time; None: all of `select`.
    live: whether rows are rewritten (`Method.stream`), so that teachers answer the batch themselves.
    labelled: whether it learns from labels alone, so that it draws only rows that have one.
    task_power: of a stage that learns from the run's other tasks too (`RunConfig.also`), a batch of one at a time: a
        task's share of the steps grows with its batches to this power, 1 as they are, 0 all alike. None: the run's task
        alone.
    frozen: parts of the trained students that keep their weights. Parameters that the method built without a gradient
        keep theirs in every stage.
    """

    name: str
    needs: Needs
    terms: Terms
    share: float = 1.0
    lr: Mapping[str, float] = field(default_factory=lambda: {"student": 1.0, "method": 1.0})
    schedule: Literal["linear", "constant"] = "linear"
    start: Literal["last", "fresh"] = "last"
    ends: Literal["last", "best"] = "last"
    adopt: tuple[str, ...] = ()
    teachers: tuple[str, ...] | None = None
    pilot: bool = False
    students: tuple[str, ...] | None = None
    judge: Literal["score", "loss"] = "score"
    probes: int = 0
    probe_rows: int | None = None
    live: bool = False
    labelled: bool = False
    task_power: float | None = None
    frozen: tuple[Part, ...] = ()

    def trains(self, role: str) -> bool:
        """Whether this stage changes the role's weights."""
        return self.lr.get(role, 0.0) > 0 and self.runs(role)

    def asks(self, teachers: Iterable[str]) -> tuple[str, ...]:
        """Those of the run's teachers that this stage reads something of."""
        named = tuple(teachers) if self.teachers is None else self.teachers
        return tuple(name for name in named if self.needs.of_teacher(name))

    def runs(self, role: str) -> bool:
        """Whether the role's model is run in this stage ("method" always is)."""
        return self.students is None or role in self.students or role == "method"


class TeacherAnswers(Protocol):
    """What a method may ask before a stage, once the teachers' outputs are there (`Method.before_stage`)."""

    def labels(self) -> Tensor:
        """Gold labels of the training rows: int64 [rows], or float32 [rows] for scores; -1, NaN: none."""
        ...

    def logits(self, teacher: str) -> Tensor:
        """The teacher's logits on the training rows, float32 [rows, outputs], in the order of `labels()`."""
        ...

    def ids(self) -> Tensor:
        """The rows' ids, as `Batch.ids` has them: int64 [rows]."""
        ...

    def sources(self) -> Tensor:
        """The number of each row's domain: int64 [rows]. Asked by a method that needs `domains`."""
        ...

    def mean_states(self, teacher: str) -> collections.abc.Generator[Progress, None, Tensor]:
        """The teacher's last hidden state, mean over a row's tokens but the first: float32 [rows, width].

        It costs a pass over the rows, as nothing of it is kept, and yields how far that is.
        """
        ...

    def word_embeddings(self, teacher: str) -> Tensor:
        """The teacher's table of word embeddings, float32 [vocabulary, width]."""
        ...

    def vocabulary(self, teacher: str = "") -> list[str]:
        """The token of each id; pieces inside a word start with ##. teacher: whose, where not the student's."""
        ...


Family = Literal["none", "soft_targets", "hidden", "attention", "relation", "choice", "gradient", "form", "data"]
"""What a method is about; methods of a family share a colour. `methods.catalog.FAMILIES` has them in words."""


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    key: str
    title: str
    authors: str
    venue: str
    year: int
    arxiv: str

    @property
    def cite(self) -> str:
        """The paper as a text names it: `Sun et al. 2019`, `Sanh and Wolf 2019`, `Hahn 2019`."""
        names = [author.split()[-1] for author in self.authors.split(",")]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        return f"{who} {self.year}"

    @property
    def reference(self) -> str:
        """Authors, title, venue, year and arXiv number in one line."""
        return f"{self.authors}: {self.title}. {self.venue} {self.year}, arXiv {self.arxiv}"


@dataclass(frozen=True)
class ModelSize:
    """The size of an encoder. heads divide width.

    positions: rows of the position table, `longest` of which a text can use. pad: id of the padding token.
    form: of its matrices, as `models.factors` knows them.
    pooled_width, projection_width: of the pooler's output and inside its projection, where it ends with one; None: the
        output is as wide as the layers.
    """

    layers: int
    width: int
    heads: int
    intermediate: int
    vocabulary: int = 30522
    positions: int = 512
    labels: int = 2
    embedding_width: int | None = None
    model_type: str = "bert"
    pad: int = 0
    form: str = "plain"
    pooled_width: int | None = None
    projection_width: int | None = None

    @property
    def first_position(self) -> int:
        """Row of the position table that the first token reads: RoBERTa and MPNet count from behind their padding."""
        return self.pad + 1 if self.model_type in ("roberta", "mpnet") else 0

    @property
    def longest(self) -> int:
        """The longest row that the encoder reads, in tokens."""
        return self.positions - self.first_position


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a method may know when it is built: sizes and scores, no models.

    scores: teacher -> its score on the task's dev or `select` rows, as recorded when it was made (main metric, 0..1).
    task: its key, for papers that set a constant per task; empty where there is none.
    also: key -> another task of the run. domains: names of those that its training rows are of.
    domain_rows: of each domain, how many rows train and how many are in `select`; empty: not told.
    other_vocabulary: teachers that cut a text into other tokens than the student does.
    """

    kind: Literal["classification", "regression"]
    labels: int
    student: ModelSize
    teachers: Mapping[str, ModelSize]
    scores: Mapping[str, float | None]
    train_rows: int = 0
    seed: int = 0
    task: str = ""
    also: Mapping[str, Task] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    domain_rows: tuple[tuple[int, int], ...] = ()
    other_vocabulary: frozenset[str] = frozenset()
