"""The predictions of a run's models on the dev rows, as the run kept them, and the sentences of those rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.config import RunConfig
from kdcore.engine.run_files import predictions
from kdcore.errors import UserError
from kdcore.identity import content
from kdcore.paths import run_dir
from kdcore.tasks import TASKS, Task
from pages.parts.common import cached
from pages.parts.common.text import plain

STUDENT = "student"


@dataclass(frozen=True)
class Model:
    """A model and its predictions. method: its run's, or "teacher". logits: [rows, outputs]."""

    name: str
    method: str
    logits: NDArray[Any]


@dataclass(frozen=True)
class Predictions:
    """One split. ids, gold: [rows]. student, teachers (by name): logits [rows, outputs]."""

    ids: NDArray[Any]
    gold: NDArray[Any]
    student: NDArray[np.float32]
    teachers: Mapping[str, NDArray[np.float32]]

    def same_rows(self, other: Predictions) -> bool:
        """Whether the two can be compared row by row."""
        return (
            np.array_equal(self.ids, other.ids)
            and np.array_equal(self.gold, other.gold)
            and self.student.shape == other.student.shape
        )


@dataclass(frozen=True)
class Pair:
    """A student and what it is compared with, on the rows of one split. teachers: of the student's run."""

    dev: DevRows
    predictions: Predictions
    student: Model
    other: Model
    teachers: tuple[Model, ...]

    def logits(self) -> dict[str, NDArray[Any]]:
        """Name -> logits of all models in a list: the teachers, the other, the student last."""
        return {model.name: model.logits for model in (*self.teachers, self.other, self.student)}

    def data_text(self) -> str:
        """What a figure of the two was made from."""
        rows = len(self.predictions.ids)
        return f"{rows:,} rows of {plain(self.dev.task.title, 40)}, one seed"


@dataclass(frozen=True)
class DevRows:
    """The sentences. texts: one column for each sentence of a row, none where the rows are not here; `why` says why."""

    task: Task
    texts: pd.DataFrame
    why: str = ""


def read(run: str) -> dict[str, Predictions]:
    """Dev split -> predictions on it; empty where the run kept none.

    Raises:
        UserError: they cannot be read.
    """
    files = sorted((run_dir(run) / "predictions").glob("*.npz"))
    return _read(run, max(file.stat().st_mtime for file in files)) if files else {}


@st.cache_data(max_entries=64, show_spinner=False)
def _read(run: str, when: float) -> dict[str, Predictions]:
    arrays = predictions(run_dir(run))
    return {
        split: Predictions(own["ids"], own["labels"], own["logits"], _teachers(arrays, split, own))
        for (split, model), own in arrays.items()
        if model == STUDENT and split != "select"
    }


def _teachers(arrays: Mapping[tuple[str, str], Any], split: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Logits of those teachers that predicted the same rows as the student."""
    return {
        model: other["logits"]
        for (other_split, model), other in arrays.items()
        if other_split == split and model != STUDENT and np.array_equal(other["ids"], own["ids"])
    }


def dev_rows(config: RunConfig, facts: Mapping[str, Any], split: str, predictions: Predictions) -> DevRows:
    """The sentences of the predicted rows, if this machine still has the rows that the run was scored on.

    facts: of the run; those of 0.1.0 have no fingerprint of the rows."""
    bare = pd.DataFrame(index=pd.Index(predictions.ids, name="id"))
    try:
        data = cached.rows(config.task, config.own.model_dump_json() if config.own else None)
    except UserError as error:
        return DevRows(_task_of_settings(config, predictions), bare, f"{error.problem}; {error.remedy}")
    rows = data.splits.get(split)
    if (
        rows is None
        or content(facts).rows not in ("", data.fingerprint)
        or not (np.array_equal(rows.ids, predictions.ids) and np.array_equal(rows.labels, predictions.gold))
    ):
        why = "other rows: those on this machine are not the ones that the run was trained and scored on"
        return DevRows(_task_of_settings(config, predictions), bare, why)
    return DevRows(data.task, bare.assign(**dict(zip(data.task.columns, rows.texts, strict=True))))


def _task_of_settings(config: RunConfig, predictions: Predictions) -> Task:
    """The task as far as settings and predictions tell."""
    if config.own is None:
        return TASKS[config.task]
    columns = tuple(name for name in (config.own.text, config.own.text_pair) if name)
    outputs = predictions.student.shape[1]
    labels = tuple(f"class {number}" for number in range(outputs)) if config.own.kind == "classification" else ()
    own = replace(TASKS["sst2"], key="own", title="Own data", suite="own")
    return replace(own, kind=config.own.kind, columns=columns, labels=labels)
