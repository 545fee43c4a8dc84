"""A training made ready: rows, models, method and teachers. The loop changes its state, nobody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdcore.config import DataConfig, TrainConfig
from kdcore.data.damage import learning_rows
from kdcore.data.encode import Encoded, encode
from kdcore.data.splits import TaskData, has_label
from kdcore.engine.checkpoint import TrainingState
from kdcore.engine.device import Compute
from kdcore.engine.ensemble import Ensemble
from kdcore.engine.predict import result_of
from kdcore.engine.schedule import epoch_steps, student_steps
from kdcore.engine.sparse_embedding import SparseEmbedding
from kdcore.events import Progress
from kdcore.methods.base import Method
from kdcore.probes.snapshots import Snapshots
from kdcore.records import Stage
from kdcore.tasks import Task


@dataclass(frozen=True)
class Rows:
    """A task's rows as the models' tokenizers see them: training rows, `select`, and the dev splits.

    epoch: rows that an epoch counts (`data.damage.LearningRows`).
    """

    train: Encoded
    splits: Mapping[str, Encoded]
    identity: Mapping[str, Any]
    epoch: int


def encode_rows(
    data: TaskData, tokenizer: Any, train: TrainConfig, damage: DataConfig | None = None, unlabelled: bool = False,
    others: Mapping[str, Any] | None = None,
) -> Rows:  # fmt: skip
    """Tokenises the training rows, `select` and the dev splits.

    Args:
        damage: what is wrong with the rows; None: nothing. unlabelled: whether rows without a label stay.
        others: key -> the tokenizer of teachers that read otherwise.
    """
    rows = learning_rows(data, train, damage or DataConfig())
    splits = {"select": rows.select, **{name: data.splits[name] for name in data.task.splits}}
    return Rows(
        encode(rows.train if unlabelled else rows.train.labelled, tokenizer, train.max_length, others),
        {name: encode(split, tokenizer, train.max_length, others) for name, split in splits.items()},
        {"data": data.fingerprint, "max_length": train.max_length},
        rows.epoch,
    )


@dataclass(frozen=True)
class OtherTask:
    """Another task that the run learns from: its training rows, and the run's teachers as it has them."""

    task: Task
    rows: Encoded
    ensemble: Ensemble


@dataclass(kw_only=True)
class Job:
    """All that a training needs. `splits` are scored; "select" is among them and decides.

    rows: what it learns from; without labels only where the method `uses_unlabelled` rows. epoch_rows: how many an
        epoch counts; None: these. others: key -> another task that it learns from.
    students: role -> model; the first is scored, kept and exported. fresh: makes them again with initial weights.
    kept: role -> names of the parameters that the method built without a gradient, which no stage trains.
    tokenizers: those of teachers that cut a text into other tokens, by the key of their encoding.
    row: the mean row of the first dev split, see `mean_row`. facts: what bit-for-bit repetition depends on.
    state: where the training is; a checkpoint's, once that is read.
    """

    train: TrainConfig
    task: Task
    folder: Path
    rows: Encoded
    splits: Mapping[str, Encoded]
    tokenizer: Any
    method: Method
    students: dict[str, nn.Module]
    fresh: Callable[[], dict[str, nn.Module]]
    ensemble: Ensemble
    compute: Compute
    tokenizers: Mapping[str, Any] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    epoch_rows: int | None = None
    others: Mapping[str, OtherTask] = field(default_factory=dict)
    gradient_share_every: int = 0
    snapshots: Snapshots | None = None
    before_saving: Callable[[], None] = lambda: None
    state: TrainingState = field(default_factory=TrainingState)
    kept: Mapping[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.kept = {
            role: frozenset(name for name, parameter in module.named_parameters() if not parameter.requires_grad)
            for role, module in self.modules().items()
        }

    @property
    def main(self) -> nn.Module:
        """The student that is scored, kept and exported."""
        return next(iter(self.students.values()))

    def learner(self, stage: Stage) -> nn.Module:
        """The student that this stage's evaluations score: the first that it trains."""
        return next((model for role, model in self.students.items() if stage.trains(role)), self.main)

    @cached_property
    def labelled(self) -> Encoded:
        """The rows that have a label."""
        there = has_label(self.rows.labels)
        return self.rows if there.all() else self.rows.take(np.flatnonzero(there))

    def task_of(self, key: str) -> Task:
        """The task of a batch (`Batch.task`)."""
        return self.others[key].task if key else self.task

    def ensemble_of(self, key: str) -> Ensemble:
        """Who teaches the task of a batch (`Batch.task`)."""
        return self.others[key].ensemble if key else self.ensemble

    def ensembles(self, stage: Stage) -> list[Ensemble]:
        """Who teaches in a stage, task by task."""
        others = self.others.values() if stage.task_power is not None else ()
        return [self.ensemble, *(other.ensemble for other in others)]

    @property
    def epoch_steps(self) -> int:
        return epoch_steps(self.train, *self._epoch_rows)

    @property
    def budget(self) -> int:
        """The run's student steps, all stages but pilots."""
        return student_steps(self.train, *self._epoch_rows)

    @property
    def _epoch_rows(self) -> tuple[int, ...]:
        ours = len(self.rows) if self.epoch_rows is None else self.epoch_rows
        return ours, *(len(other.rows) for other in self.others.values())

    def word_tables(self) -> dict[str, torch.Tensor]:
        """Role -> its table of word vectors, of those who have a plain one of their own."""
        tables = {role: model.get_input_embeddings() for role, model in self.students.items()}  # type: ignore[operator]
        weights = {role: table.weight for role, table in tables.items() if isinstance(table, nn.Embedding)}
        owners = Counter(map(id, weights.values()))
        return {role: weight for role, weight in weights.items() if owners[id(weight)] == 1}

    def sparse_embeddings(self) -> dict[str, SparseEmbedding]:
        """The tables of word embeddings that are trained in part, by role."""
        tables = {role: model.get_input_embeddings() for role, model in self.students.items()}  # type: ignore[operator]
        return {role: table for role, table in tables.items() if isinstance(table, SparseEmbedding)}

    def unused_words(self) -> dict[str, nn.Module]:
        """What the tables that are trained in part keep of the other words while a stage runs."""
        return {f"unused-words-{role}": table.unused for role, table in self.sparse_embeddings().items()}

    def own_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The method's own, by their names in a checkpoint."""
        return {f"own-{name}": optimizer for name, optimizer in self.method.optimizers.items()}

    def own_parameters(self) -> set[nn.Parameter]:
        """What the method's own optimisers train."""
        groups = [group for optimizer in self.method.optimizers.values() for group in optimizer.param_groups]
        return {parameter for group in groups for parameter in group["params"]}

    def modules(self) -> dict[str, nn.Module]:
        """All that is trained: the students by role, and the method's own modules as "method"."""
        return {**self.students, "method": self.method}


@dataclass(frozen=True)
class TrainingAnswers:
    """The teachers' outputs on the training rows, for `Method.before_stage` (`records.TeacherAnswers`)."""

    job: Job

    def labels(self) -> torch.Tensor:
        return torch.from_numpy(self.job.rows.labels)

    def ids(self) -> torch.Tensor:
        return torch.from_numpy(self.job.rows.ids)

    def sources(self) -> torch.Tensor:
        if self.job.rows.sources is None:
            raise ValueError("the data name no domains")
        return torch.from_numpy(self.job.rows.sources)

    def mean_states(self, teacher: str) -> Generator[Progress, None, torch.Tensor]:
        return self.job.ensemble.mean_states(teacher, self.job.rows)

    def logits(self, teacher: str) -> torch.Tensor:
        rows = self.job.rows  # the outputs are there from `ready`
        return torch.from_numpy(
            result_of(self.job.ensemble.logits(teacher, rows, f"teacher {teacher} on the training rows"))
        )

    def word_embeddings(self, teacher: str) -> torch.Tensor:
        if reading := self.job.ensemble.reading(teacher):
            raise ValueError(f"the words of {teacher} are those of the tokenizer {reading!r}, not the student's")
        return self.job.ensemble.word_embeddings(teacher)

    def vocabulary(self, teacher: str = "") -> list[str]:
        reading = self.job.ensemble.reading(teacher) if teacher else ""
        ids: dict[str, int] = (self.job.tokenizers[reading] if reading else self.job.tokenizer).get_vocab()
        return sorted(ids, key=ids.__getitem__)
