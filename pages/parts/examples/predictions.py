"""What the models of a run answered on the dev rows, as the run kept it, and the sentences of those rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.paths import run_dir
from kdcore.tasks import TASKS, Task
from pages.parts.common import cached
from pages.parts.common.text import plain

STUDENT = "student"


@dataclass(frozen=True)
class Model:
    """One that answered. method: its run's, or "teacher". logits: [rows, outputs]."""

    name: str
    method: str
    logits: NDArray[Any]


@dataclass(frozen=True)
class Answered:
    """One split. ids, gold: [rows]. student, teachers (by name): logits [rows, outputs]."""

    ids: NDArray[Any]
    gold: NDArray[Any]
    student: NDArray[np.float32]
    teachers: Mapping[str, NDArray[np.float32]]

    def same_rows(self, other: Answered) -> bool:
        """Whether the two can be set side by side, row by row."""
        return (
            np.array_equal(self.ids, other.ids)
            and np.array_equal(self.gold, other.gold)
            and self.student.shape == other.student.shape
        )


@dataclass(frozen=True)
class Pair:
    """A student and what it is compared with, on the rows of one split. teachers: of the student's run."""

    dev: Dev
    answers: Answered
    student: Model
    other: Model
    teachers: tuple[Model, ...]

    def said(self) -> dict[str, NDArray[Any]]:
        """Name -> logits of all that stand in a list: the teachers, the other, the student last."""
        return {model.name: model.logits for model in (*self.teachers, self.other, self.student)}

    def about(self) -> str:
        """What a figure of the two was made from."""
        rows = len(self.answers.ids)
        return f"{rows:,} rows of {plain(self.dev.task.title, 40)}, one seed"


@dataclass(frozen=True)
class Dev:
    """The rows in words. texts: one column a sentence, none where the rows are not here; then `why` says why."""

    task: Task
    texts: pd.DataFrame
    why: str = ""


def of_run(run: str) -> dict[str, Answered]:
    """Dev split -> what was answered on it; empty where the run has kept no answers.

    Raises:
        UserError: they do not read.
    """
    files = sorted((run_dir(run) / "predictions").glob("*.npz"))
    return _of_run(run, max(file.stat().st_mtime for file in files)) if files else {}


@st.cache_data(max_entries=64, show_spinner=False)
def _of_run(run: str, when: float) -> dict[str, Answered]:
    from kdcore.engine import results

    found = results.predictions(run_dir(run))
    return {
        split: Answered(own["ids"], own["labels"], own["logits"], _teachers(found, split, own))
        for (split, model), own in found.items()
        if model == STUDENT and split != "select"
    }


def _teachers(found: Mapping[tuple[str, str], Any], split: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Those that answered the very rows of the student."""
    return {
        model: other["logits"]
        for (where, model), other in found.items()
        if where == split and model != STUDENT and np.array_equal(other["ids"], own["ids"])
    }


def dev(config: RunConfig, split: str, answers: Answered) -> Dev:
    """The sentences of the answered rows, if this machine still has the rows that the run was scored on."""
    bare = pd.DataFrame(index=pd.Index(answers.ids, name="id"))
    try:
        data = cached.rows(config.task, config.own.model_dump_json() if config.own else None)
    except UserError as error:
        return Dev(_unseen(config, answers), bare, f"{error.problem}; {error.remedy}")
    rows = data.splits.get(split)
    if rows is None or not (np.array_equal(rows.ids, answers.ids) and np.array_equal(rows.labels, answers.gold)):
        why = "the rows on this machine are not those that the run was scored on"
        return Dev(_unseen(config, answers), bare, why)
    return Dev(data.task, bare.assign(**dict(zip(data.task.columns, rows.texts, strict=True))))


def _unseen(config: RunConfig, answers: Answered) -> Task:
    """The task as far as settings and answers tell."""
    if config.own is None:
        return TASKS[config.task]
    columns = tuple(name for name in (config.own.text, config.own.text_pair) if name)
    outputs = answers.student.shape[1]
    labels = tuple(f"class {number}" for number in range(outputs)) if config.own.kind == "classification" else ()
    return replace(TASKS["sst2"], key="own", title="Own data", suite="own", columns=columns,
                   kind=config.own.kind, labels=labels)  # fmt: skip
