"""What a search chooses from: sizes, initial weights, methods and their options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kdcore.config import OwnData, RunConfig, TrainConfig
from kdcore.data import load
from kdcore.data.encode import encode
from kdcore.data.splits import TaskData
from kdcore.engine.plan import Plan
from kdcore.engine.teacher_source import teacher_size
from kdcore.errors import UserError
from kdcore.fields import Range, ranges
from kdcore.formatting import start_text, subword_tokens
from kdcore.identity import config_hash
from kdcore.methods import find_method
from kdcore.models.count import row_length
from kdcore.models.sizes import PRESETS, presets_for
from kdcore.records import ModelSize
from kdcore.runs.complete import complete
from kdcore.search.question import Question, template
from kdcore.settings_file import validate

STARTS: tuple[dict[str, Any], ...] = (
    {"init": "teacher", "init_layers": "skip"},
    {"init": "base", "init_layers": "first"},
    {"init": "random"},
)
RANDOM = STARTS[-1]
SAMPLE = 512
"""Rows tokenised to learn how long the task's rows are."""

Settings = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """One setting that may be trained. options: of the method, those that are searched."""

    size: str
    start: str
    method: str
    options: tuple[tuple[str, Any], ...] = ()


class Space:
    """Sizes, starts and methods by name, and the run that a choice of them is.

    Raises:
        UserError: a size, a start or a method is not known, or the shared settings are not valid; the field is named.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.methods = tuple(find_method(name).key for name in question.methods)
        self.run = template(question.run, self.methods[0])
        if not self.run.teachers and self.run.base is None:
            raise UserError("run.teachers", "there is none", "name a teacher, as `kdcore distil --teacher` takes it")
        self._check_seeds()
        self._mean_lengths: dict[tuple[int | None, str], float] = {}
        self.sizes = self._sizes()
        self.starts = self._starts()

    @cached_property
    def reference(self) -> ModelSize:
        """The size of the base, or of the first teacher: a student that names no width has its."""
        return teacher_size(self.run.base or self.run.teachers[0], self._data)

    @property
    def tokens(self) -> int:
        """Of the row that students are timed on, as the base reads it: the bound's, else the training rows' mean."""
        return self._tokens(self._mean_length())

    def tokens_of(self, size: str) -> int:
        """Tokens of the same row as students of this size read it: another number with a vocabulary of their own."""
        return self._tokens(self._mean_length(vocabulary=self.sizes[size].get("vocabulary")))

    def tokens_of_teacher(self, name: str) -> int:
        """Tokens of the same row as a teacher reads it: another number with another tokenizer."""
        (spec,) = (spec for spec in self.run.teachers if spec.name == name)
        return min(self._tokens(self._mean_length(teacher=name)), teacher_size(spec, self._data).longest)

    def _tokens(self, mean: float) -> int:
        """Of the row that is timed, as a model reads it that has so many tokens in a mean training row."""
        asked = self.question.bound.tokens
        return row_length(mean) if asked is None else round(asked * mean / self._mean_length())

    def ranges(self, method: str) -> dict[str, Range]:
        """Option -> the values that are tried: the main ones, as the method declares them."""
        return ranges(find_method(method).Config, main=True)

    def starts_of(self, size: str) -> tuple[str, ...]:
        """Initial weights that a student of this size can have: another width fits no teacher's layers."""
        if self._is_own_width(self.sizes[size]):
            return (start_text(RANDOM),)
        if self.sizes[size].get("form", "plain") != "plain":
            return tuple(name for name, start in self.starts.items() if start != RANDOM) or (start_text(RANDOM),)
        return tuple(self.starts)

    def run_of(self, candidate: Candidate, seed: int | None = None) -> RunConfig:
        """The run that trains a candidate, complete.

        Raises:
            UserError: the settings do not go together.
        """
        start = self.starts.get(candidate.start, RANDOM)
        run = template(self.question.run, candidate.method, self.sizes[candidate.size] | start)
        if seed is not None:
            run = run.model_copy(update={"train": run.train.model_copy(update={"seed": seed})})
        run = complete(run, dict(candidate.options))
        return run.model_copy(update={"name": f"{candidate.method}, {candidate.size}"})

    def deployed(self, candidate: Candidate) -> ModelSize:
        """The size that runs and is exported."""
        return self.plan(self.run_of(candidate)).deployed_size

    def default(self, method: str, size: str) -> Candidate:
        """A method with its own options on a size, from the first start there is."""
        return Candidate(size, self.starts_of(size)[0], method)

    def plan(self, run: RunConfig) -> Plan:
        """The run's plan; rows of its task that another plan has read are not read again."""
        return Plan(run, self._rows)

    def _rows(self, task: str, own: OwnData | None) -> TaskData:
        return self._data if task == self.run.task else load(task, own)

    def _mean_length(self, vocabulary: int | None = None, teacher: str = "") -> float:
        """Mean tokens of the training rows, in a vocabulary of so many subword tokens of their own, as a teacher reads
        them, or (neither) in the base's vocabulary."""
        if (vocabulary, teacher) not in self._mean_lengths:
            plan = self._plan({"layers": 1, "init": "random", "vocabulary": vocabulary})
            specs = {spec.name: spec for spec in plan.config.teachers}
            tokenizer = plan.tokenizer_of(specs[teacher]) if teacher else plan.tokenizer
            rows = plan.training_rows
            chosen = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64)
            lengths = encode(rows.take(chosen), tokenizer, self.run.train.max_length).lengths
            self._mean_lengths[vocabulary, teacher] = float(lengths.mean())
        return self._mean_lengths[vocabulary, teacher]

    @cached_property
    def _data(self) -> TaskData:
        return load(self.run.task, self.run.own)

    def _plan(self, student: Settings) -> Plan:
        return self.plan(template(self.question.run, self.methods[0], student))

    def _check_seeds(self) -> None:
        """Raises UserError where the recommended setting's last seed is more than a run takes."""
        last = self.run.train.seed + self.question.seeds - 1
        try:
            validate(TrainConfig, {"seed": last}, "run.train")
        except UserError as error:
            raise UserError(
                "seeds", f"the last of {self.question.seeds} seeds would be {last} ({error.problem})",
                "begin with a smaller run.train.seed, or ask for fewer seeds",
            ) from None  # fmt: skip

    def _sizes(self) -> dict[str, Settings]:
        listed = self.question.sizes or tuple(presets_for(self.reference))
        of_size: dict[ModelSize, Settings] = {}
        for i, entry in enumerate(listed):
            settings = _preset(entry, f"sizes[{i}]") if isinstance(entry, str) else dict(entry)
            size = self._plan({"init": "teacher"} | settings).student_size
            of_size.setdefault(size, settings)  # two names may stand for one size
        labels = {size: _label(settings) for size, settings in of_size.items()}
        count = Counter(labels.values())
        long = {size: _long_label(size, of_size[size]) for size in of_size}
        return {label if count[label] == 1 else long[size]: of_size[size] for size, label in labels.items()}

    def _starts(self) -> dict[str, Settings]:
        asked = self.question.starts
        usable: dict[str, Settings] = {}
        for i, start in enumerate(asked or STARTS):
            if unknown := set(start) - {"init", "init_layers", "checkpoint"}:
                raise UserError(f"starts[{i}].{unknown.pop()}", "is no part of a start", "give init and init_layers")
            try:
                named = start.get("init_layers")
                _ = self._plan({"layers": len(named) if isinstance(named, list | tuple) else 1} | start).source
            except UserError as error:
                if asked:
                    raise UserError(f"starts[{i}].init", error.problem, error.remedy) from None
                continue
            folder = f" {start['checkpoint']}" if start.get("checkpoint") else ""
            usable[start_text({"init_layers": "first"} | start) + folder] = start
        if not asked and len(usable) > 1:  # beside a teacher's layers new weights only lose time
            usable.pop(start_text(RANDOM))
        return usable

    def _is_own_width(self, size: Settings) -> bool:
        return size.get("width") not in (None, self.reference.width)


def hash_of(run: RunConfig) -> str:
    """By which a trial is recognised."""
    return config_hash(run)


def deployed_sizes(space: Space, candidates: Iterable[Candidate]) -> tuple[dict[Candidate, ModelSize], dict[str, str]]:
    """Candidate -> the size that is deployed; and `kd on 3 layers` -> why it cannot be trained."""
    sizes: dict[Candidate, ModelSize] = {}
    refused: dict[str, str] = {}
    for candidate in candidates:
        try:
            sizes[candidate] = space.deployed(candidate)
        except UserError as error:
            refused[f"{candidate.method} on {candidate.size}"] = error.problem
    return sizes, refused


def candidate_text(candidate: Candidate) -> str:
    """A candidate for people: `kd (temperature 4), 3 layers, spread layers of the teacher`."""
    options = ", ".join(f"{name} {_short(value)}" for name, value in candidate.options)
    method = f"{candidate.method} ({options})" if options else candidate.method
    return f"{method}, {candidate.size}, {candidate.start}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _preset(name: str, field: str) -> Settings:
    if name not in PRESETS:
        raise UserError(field, f"no size {name[:40]!r}", f"choose of {', '.join(PRESETS)}, or write layers: 3")
    preset = PRESETS[name]
    given = {key: getattr(preset, key) for key in ("layers", "width", "heads", "intermediate")}
    return {key: value for key, value in given.items() if value is not None}


def _label(size: Mapping[str, Any]) -> str:
    """A size for people: `3 layers`, `2 x 64`, `6 layers, kronecker-8`."""
    layers = size.get("layers", 3)
    label = f"{layers} x {size['width']}" if size.get("width") else f"{layers} layer{'' if layers == 1 else 's'}"
    parts = [f"{size[key]} {key}" for key in ("heads", "intermediate") if size.get(key) and not size.get("width")]
    if size.get("vocabulary"):
        parts.append(subword_tokens(size["vocabulary"]))
    form = size.get("form", "plain")
    return ", ".join([label, *parts, *([] if form == "plain" else [form])])


def _long_label(size: ModelSize, settings: Settings) -> str:
    """With all that tells two sizes apart which have one label: `3 x 64, 4 heads, 128 intermediate`."""
    form = [] if size.form == "plain" else [size.form]
    parts = f"{size.heads} heads", f"{size.intermediate} intermediate"
    vocabulary = [subword_tokens(settings["vocabulary"])] if settings.get("vocabulary") else []
    return ", ".join([f"{size.layers} x {size.width}", *parts, *form, *vocabulary])
