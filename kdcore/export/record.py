"""What is published of a run beside its weights: settings, scores, versions; nothing that names this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore.config import OWN_FILES, RunConfig, TeacherSpec
from kdcore.runs.export import student_folder
from kdcore.tasks import TASKS, Task, find_task

if TYPE_CHECKING:
    import pandas as pd

    from kdcore.store import Store

Scores = dict[str, dict[str, float]]
"""Split -> metric -> value, a fraction."""

_PLACE = re.compile(r"(?:[/\\]|~|\.{1,2}[/\\]|[A-Za-z]:[/\\])")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?\Z")


@dataclass(frozen=True, kw_only=True)
class StudentRecord:
    """A student and what is known of it.

    which: "best" by the rows held out from training, or "last". folder: where the run keeps it.
    scores, rows: of its dev splits, empty where the run did not come to its end.
    teachers: name -> scores. seeds: main dev score of each run of this setting in the store, this one's too.
    """

    run: str
    name: str
    state: str
    which: str
    folder: Path
    config: RunConfig
    task: Task
    facts: Mapping[str, Any]
    seconds: float | None
    step: int | None
    scores: Scores = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    teachers: Mapping[str, Scores] = field(default_factory=dict)
    seeds: tuple[float, ...] = ()


def read_record(store: Store, run_id: str, which: str = "best") -> StudentRecord:
    """The record of a run's student.

    Raises:
        UserError: no such run or student, or settings that cannot be read.
    """
    folder, row = student_folder(store, run_id, which), store.get(run_id)
    evaluations = store.evaluations(run_id)
    scores, rows, step = _scores(evaluations, which)
    seconds = row.summary.get("seconds")
    named = {word.removeprefix("teacher:") for word in evaluations["which"] if word.startswith("teacher:")}
    return StudentRecord(
        run=run_id, name=row.name, state=row.state, which=which, folder=folder, config=row.config,
        task=task_of(row.config, row.facts), facts=row.facts, step=step,
        seconds=float(seconds) if isinstance(seconds, (int, float)) else None, scores=scores, rows=rows,
        teachers={name: _scores(evaluations, f"teacher:{name}")[0] for name in sorted(named)},
        seeds=_seeds(store, run_id) if which == "best" else (),
    )  # fmt: skip


def task_of(config: RunConfig, facts: Mapping[str, Any]) -> Task:
    """The task of a run from its settings and facts alone: the rows of an own table need not be there any more."""
    if config.own is None:
        return TASKS.get(config.task) or find_task(config.task)
    own = config.own
    columns = (own.text, own.text_pair) if own.text_pair else (own.text,)
    classes = facts.get("classes")
    labels = tuple(map(str, classes)) if own.kind == "classification" and isinstance(classes, list) else ()
    metrics = ("accuracy", "f1") if own.kind == "classification" else ("pearson", "spearman")
    return Task("own", last_part(own.path), "own", columns, own.kind, labels, metrics)


def public_settings(config: RunConfig) -> dict[str, Any]:
    """The settings with the last part of each path in place of the path."""
    settings = config.model_dump(mode="json")
    for spec in (*settings["teachers"], settings["base"] or {}):
        if spec.get("source") == "folder":
            spec["where"] = last_part(spec["where"])
    for parent, name in (*((settings["own"], name) for name in OWN_FILES), (settings["student"], "checkpoint")):
        if parent and parent[name]:
            parent[name] = last_part(parent[name])
    return {key: _without_places(value) for key, value in settings.items()}


def teacher_place(spec: TeacherSpec) -> str:
    """Where a teacher comes from, in words: `package minilm, first 4 layers`; of a folder its name alone."""
    where = last_part(spec.where) if spec.source == "folder" else spec.where
    return f"{spec.source} {where}" + (f", first {spec.layers} layers" if spec.layers else "")


def hub_models(config: RunConfig) -> list[str]:
    """Hub ids of the models that the student learned from or starts from."""
    specs = [*config.teachers, *([config.base] if config.base else [])]
    found = [spec.where for spec in specs if spec.source == "hub" and _HUB_ID.match(spec.where)]
    return list(dict.fromkeys(found))


def last_part(path: str) -> str:
    """The name at the end of a path of any system.

    >>> last_part("/data/films.csv"), last_part("C:\\\\data\\\\films.csv")
    ('films.csv', 'films.csv')
    """
    return re.split(r"[/\\]+", path.rstrip("/\\"))[-1]


def _without_places(value: Any) -> Any:
    """Strings that begin as paths do, wherever they stand in a method's options, cut to their last part."""
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    return last_part(value) if isinstance(value, str) and _PLACE.match(value) else value


def _scores(evaluations: pd.DataFrame, which: str) -> tuple[Scores, dict[str, int], int | None]:
    """The dev scores of a model, the rows of each split, and the step of the weights.

    The last weights are also scored while they change; of those only the end counts.
    """
    chosen = evaluations[evaluations["which"] == which]
    if which == "last":
        chosen = chosen[chosen["stage"] == "end"]
    scores: Scores = {}
    rows: dict[str, int] = {}
    for split, metric, value, count in zip(chosen["split"], chosen["metric"], chosen["value"], chosen["rows"],
                                           strict=True):  # fmt: skip
        if split != "select" and value == value:
            scores.setdefault(str(split), {})[str(metric)] = float(value)
            rows[str(split)] = int(count)
    return scores, rows, int(chosen["step"].max()) if len(chosen) else None


def _seeds(store: Store, run_id: str) -> tuple[float, ...]:
    runs = store.runs(include_archived=True)
    own = runs[runs["id"] == run_id]
    if own.empty:
        return ()
    same = runs[(runs["group"] == own["group"].iloc[0]) & (runs["state"] == "done") & runs["score"].notna()]
    return tuple(float(score) for score in same.drop_duplicates("seed")["score"])
