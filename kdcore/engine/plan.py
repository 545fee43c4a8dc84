"""What a run's settings mean here: data, method, sizes, stages, steps. Worked out once, for all who ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.config import DataConfig, OwnData, RunConfig, TeacherSpec
from kdcore.data import load
from kdcore.data.damage import LearningRows, learning_rows
from kdcore.data.splits import Split, TaskData
from kdcore.engine.device import Compute, compute_for
from kdcore.engine.evaluate import blind_guess
from kdcore.engine.own_vocabulary import own_tokenizer, source_words
from kdcore.engine.schedule import stage_steps, student_steps
from kdcore.engine.teacher_source import (
    check_has_base,
    folder_hash,
    needs_training,
    teacher_folder,
    teacher_size,
    tokenizer_of,
)
from kdcore.errors import UserError
from kdcore.layer_map import LayerMap
from kdcore.methods import Method, MethodConfig, resolve
from kdcore.methods.catalog import check_source
from kdcore.models.sizes import size_of, student_size
from kdcore.models.sources import locate, read_config
from kdcore.models.tokenizer_checks import check_tokenizer, reads_alike
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import stored_names
from kdcore.paths import user_path
from kdcore.records import ModelSize, Setup, Stage


class Plan:
    """A run before it starts. Each attribute is worked out when it is first read; no weights are loaded.

    Reading an attribute raises UserError where the settings leave it without a meaning, so that of a run with several
    faults each is found by what depends on it.

        >>> from kdcore.config import StudentSpec
        >>> student = StudentSpec(layers=2, width=32, heads=2, init="random")
        >>> plan = Plan(RunConfig(task="pocket-sentiment", method="fine-tune", student=student))
        >>> plan.student_size.layers, len(plan.stages), plan.steps == [plan.budget]
        (2, 1, True)

    Args:
        config: the run's settings. load_rows: in place of `kdcore.data.load`, for who has the rows already.
    """

    def __init__(self, config: RunConfig, load_rows: Callable[[str, OwnData | None], TaskData] | None = None) -> None:
        self.config = config
        self._load_rows = load_rows or load
        self._folders: dict[tuple[TeacherSpec, str], Path] = {}
        self._tokenizers: dict[TeacherSpec, Any] = {}

    @cached_property
    def data(self) -> TaskData:
        """The task's rows."""
        return self._load_rows(self.config.task, self.config.own)

    @cached_property
    def rows(self) -> LearningRows:
        """Training rows and `select`, as the settings of the data leave them."""
        return learning_rows(self.data, self.config.train, self.config.data)

    @cached_property
    def training_rows(self) -> Split:
        """The rows that the student learns from; those without a label only where the method can use them."""
        return self.rows.train if self.uses_unlabelled else self.rows.train.labelled

    @property
    def select_rows(self) -> Split:
        """The training rows held out for model selection."""
        return self.rows.select

    @cached_property
    def others(self) -> dict[str, TaskData]:
        """Key -> the rows of another task that the run learns from. Raises UserError where they are not here."""
        found = {}
        for key in self.config.also:
            try:
                found[key] = self._load_rows(key, None)
            except UserError as error:
                raise UserError("also", error.problem, error.remedy) from error
        return found

    @cached_property
    def other_rows(self) -> dict[str, LearningRows]:
        """Key of another task -> its training rows and `select`. They are whole, whatever the damage of the run's."""
        return {key: learning_rows(data, self.config.train, DataConfig()) for key, data in self.others.items()}

    @property
    def epoch_rows(self) -> tuple[int, ...]:
        """Rows that an epoch counts, of the run's task and of each other one."""
        return self.rows.epoch, *(len(rows.train) for rows in self.other_rows.values())

    @cached_property
    def compute(self) -> Compute:
        """Device and precision."""
        return compute_for(self.config.train)

    def blind_guess(self, split: str) -> dict[str, float]:
        """The metrics that always saying the same gets on a dev split, or on "select"."""
        rows = self.select_rows if split == "select" else self.data.splits[split]
        return blind_guess(self.data.task, self.rows.train.labelled.labels, rows.labels)

    # --- sizes and words ------------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Any:
        """The student's tokenizer: one of its own, that of the base, or of the first teacher.

        Raises:
            UserError: nothing brings a vocabulary.
        """
        if pieces := self.config.student.vocabulary:
            return own_tokenizer(self.data, pieces)
        if (base := self._base()) is not None:
            return self.tokenizer_of(base)
        if self.data.vocabulary is None:
            raise UserError(
                "base", "without a teacher nothing says which vocabulary the student has",
                "name a base or a teacher",
            )  # fmt: skip
        return tokenizer_from_vocabulary(self.data.vocabulary)

    @cached_property
    def readings(self) -> dict[str, str]:
        """Teacher -> key of the encoding that it reads (`Batch.encodings`): "" where it cuts a text into the student's
        tokens, else the first teacher that cuts it as this one does.

        Raises:
            UserError: a tokenizer that does not fit its model.
        """
        known, keys = {"": self.tokenizer}, {}
        for spec in self.config.teachers:
            own = self.tokenizer_of(spec)
            keys[spec.name] = next((key for key, other in known.items() if reads_alike(own, other)), spec.name)
            known.setdefault(keys[spec.name], own)
        return keys

    @property
    def other_tokenizers(self) -> dict[str, Any]:
        """Key of an encoding -> its tokenizer, of those that are not the student's."""
        specs = {spec.name: spec for spec in self.config.teachers}
        return {key: self.tokenizer_of(specs[key]) for key in dict.fromkeys(self.readings.values()) if key}

    def tokenizer_of(self, spec: TeacherSpec) -> Any:
        """The tokenizer that belongs to a teacher or base, read once.

        Raises:
            UserError: it does not fit the model.
        """
        if spec not in self._tokenizers:
            own = tokenizer_of(spec, self.data)
            check_tokenizer(own, teacher_size(spec, self.data).vocabulary, f"teachers.{spec.name}", spec.name)
            self._tokenizers[spec] = own
        return self._tokenizers[spec]

    @cached_property
    def teacher_sizes(self) -> dict[str, ModelSize]:
        """Teacher -> its size."""
        return {spec.name: teacher_size(spec, self.data) for spec in self.config.teachers}

    @cached_property
    def student_size(self) -> ModelSize:
        """The student's size: what its settings leave empty is the base's, or the first teacher's."""
        size = student_size(self.config.student, self._reference_size(), self.data.task.outputs)
        words = len(self.tokenizer) if self.config.student.vocabulary else size.vocabulary
        return replace(size, pad=self.tokenizer.pad_token_id or 0, vocabulary=words)

    @property
    def deployed_size(self) -> ModelSize:
        """The size of the model that the method makes of the student: what is run, timed and exported."""
        return self.method_class.deployed(self.options, self.student_size, self.teacher_sizes)

    @property
    def layer_map(self) -> LayerMap:
        """Student layer -> layers of the first teacher that it is matched with; empty where the method matches none."""
        teacher = next(iter(self.teacher_sizes.values()), None)
        return {} if teacher is None else self.method_class.layer_map(self.options, self.student_size, teacher)

    @property
    def source_words(self) -> list[list[int]] | None:
        """Of a student with a vocabulary of its own: for each id, those of the source's tokens that it stands for."""
        if not self.config.student.vocabulary or self.source is None:
            return None
        return source_words(self.tokenizer, self.tokenizer_of(self.source))

    @property
    def pretrained(self) -> list[TeacherSpec]:
        """The models that the run starts from: its teachers, and its base where one is named."""
        return [*self.config.teachers, *([self.config.base] if self.config.base else [])]

    def _base(self) -> TeacherSpec | None:
        return self.config.base or next(iter(self.config.teachers), None)

    def _reference_size(self) -> ModelSize:
        if (base := self._base()) is not None:
            return teacher_size(base, self.data)
        spec = self.config.student
        if spec.init != "random" or spec.width is None or spec.heads is None:
            raise UserError(
                "student", "without a teacher or base the student needs width and heads, and init=random",
                "fill them in, or name a base",
            )  # fmt: skip
        intermediate = spec.intermediate or 4 * spec.width
        return ModelSize(spec.layers, spec.width, spec.heads, intermediate, len(self.tokenizer))

    # --- initial weights and teachers -----------------------------------------------------------------------------

    @property
    def source(self) -> TeacherSpec | None:
        """The teacher (init=teacher) or base (init=base) whose layers fill the student; None: neither does.

        Raises:
            UserError: there is none, or no pretrained base behind it.
        """
        if self.config.student.init == "teacher":
            if not self.config.teachers:
                raise UserError(
                    "student.init", "there is no teacher to start from", "add a teacher or choose init=base"
                )
            return self.config.teachers[0]
        if self.config.student.init == "base":
            if (base := self._base()) is None:
                raise UserError("student.init", "there is no base to start from", "name a base, or choose init=random")
            check_has_base(base)
            return base
        return None

    @cached_property
    def source_size(self) -> ModelSize | None:
        """The size of the model that fills the student; None where its weights are new."""
        student = self.config.student
        if student.init == "checkpoint":
            folder = user_path(student.checkpoint or "", "student.checkpoint")
            stored_names(folder, "student.checkpoint")  # raises where there are no weights
            return size_of(read_config(folder, "student.checkpoint"))
        if (source := self.source) is None:
            return None
        whole = source.model_copy(update={"layers": None})
        return teacher_size(whole if student.init == "base" else source, self.data)

    def teacher_folder(self, spec: TeacherSpec, also: str = "") -> Path:
        """Where a teacher that is trained here is kept. also: key of another task that it is a teacher of."""
        if (spec, also) not in self._folders:
            data, damage = (self.others[also], None) if also else (self.data, self.config.data)
            self._folders[spec, also] = teacher_folder(spec, data, self.config.train, damage)
        return self._folders[spec, also]

    def content_of(self, spec: TeacherSpec, identity: str, also: str = "") -> str:
        """What a teacher is: the hash of its weights, or, where it is trained here, of all that decides them.

        identity: hash of its folder. also: key of another task that it is a teacher of.
        """
        return self.teacher_folder(spec, also).name.rpartition("-")[2] if needs_training(spec) else identity

    @cached_property
    def start_content(self) -> str:
        """Hash of the weights that the student starts from, where they are neither new nor a teacher's."""
        student = self.config.student
        if student.init == "checkpoint":
            return folder_hash(user_path(student.checkpoint or "", "student.checkpoint"))
        if student.init == "base" and self.source is not None:
            return folder_hash(locate(self.source).path)
        return ""

    # --- the method and its stages --------------------------------------------------------------------------------

    @cached_property
    def _resolved(self) -> tuple[type[Method], MethodConfig]:
        check_source(self.config)
        return resolve(self.config.method, self.config.options)

    @property
    def method_class(self) -> type[Method]:
        return self._resolved[0]

    @property
    def options(self) -> MethodConfig:
        """The method's settings, checked and complete."""
        return self._resolved[1]

    @property
    def uses_unlabelled(self) -> bool:
        """Whether the method, with these options, learns from rows without a label, and is given them."""
        return self.config.data.unlabelled == "use" and self.method_class.uses_unlabelled(self.options)

    def setup(self, scores: dict[str, float]) -> Setup:
        """What the method is built from. scores: teacher -> its main metric on `select`, 0..1."""
        task = self.data.task
        return Setup(
            kind=task.kind, labels=task.outputs, student=self.student_size, teachers=self.teacher_sizes,
            scores=scores, train_rows=len(self.training_rows), seed=self.config.train.seed, task=task.key,
            also={key: data.task for key, data in self.others.items()}, domains=self.data.domains,
            domain_rows=_domain_rows(self),
            other_vocabulary=frozenset(name for name, key in self.readings.items() if key),
        )  # fmt: skip

    @cached_property
    def method(self) -> Method:
        """The method as a draft: teachers have no scores before they are trained, so each is given 0.5."""
        check_method(self)
        return self.method_class(self.options, self.setup(dict.fromkeys(self.teacher_sizes, 0.5)))

    @cached_property
    def stages(self) -> list[Stage]:
        return self.method.stages()

    @property
    def budget(self) -> int:
        """The run's student steps, all stages but pilots."""
        return student_steps(self.config.train, *self.epoch_rows)

    @property
    def steps(self) -> list[int]:
        """Steps of each stage. Raises UserError where a stage would have none."""
        return stage_steps(self.stages, self.budget)


def check_method(plan: Plan) -> None:
    """Raises UserError where a method has no meaning for the task, or not for so many teachers."""
    method, count = plan.method_class, len(plan.config.teachers)
    if plan.data.task.kind not in method.kinds:
        raise UserError(
            "method", f"{method.title} has no meaning for {plan.data.task.kind}", "choose another method or task"
        )
    if method.domains and (count_domains := _domains_learned(plan)) < 2:
        there = f"the training rows are of {'none' if not count_domains else 'one'}"
        own = plan.config.own is not None
        raise UserError(
            "own.domain" if own else "task", f"{method.title} learns from several domains, and {there}",
            "name the column that says which domain a row is of" if own
            else "choose a pocket task, MNLI with the official TSV files (genre), or your own table",
        )  # fmt: skip
    fewest, most = method.takes(plan.options)
    if not fewest <= count <= most:
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        other = "" if (fewest, most) == method.teachers else " with these options"
        raise UserError("teachers", f"{method.title} takes {wanted}{other}, {count} are chosen", "change the ensemble")


def _domain_rows(plan: Plan) -> tuple[tuple[int, int], ...]:
    """Of each domain that the data name, how many rows train and how many are in `select`."""
    trained, held = (_of_each(rows.sources, len(plan.data.domains)) for rows in (plan.training_rows, plan.select_rows))
    return tuple(zip(trained, held, strict=True))


def _of_each(sources: NDArray[np.int64] | None, count: int) -> list[int]:
    """How often each of `count` domains is among the sources."""
    return [0] * count if sources is None else np.bincount(sources, minlength=count).tolist()


def _domains_learned(plan: Plan) -> int:
    """Of how many domains the rows are that the run learns from."""
    sources = plan.training_rows.sources
    return 0 if sources is None else len(np.unique(sources))
