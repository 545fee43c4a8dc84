"""Scores of trials: on `select`, by which everything is decided; seconds that they took; which one is recommended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from kdcore.analysis.comparison import training_seconds
from kdcore.search.question import Cost
from kdcore.tasks import TASKS

if TYPE_CHECKING:
    from kdcore.search.record import SearchRecord
    from kdcore.store import Store


class Moment(NamedTuple):
    """step: of an evaluation. score: the best so far."""

    step: int
    score: float


def main_metric(task: str, evaluations: pd.DataFrame) -> str:
    """The metric that decides; of an own table the first that its run reports."""
    if task in TASKS:
        return TASKS[task].main_metric
    return str(evaluations["metric"].iloc[0]) if len(evaluations) else ""


def progress(evaluations: pd.DataFrame, task: str, stages: Iterable[str]) -> list[Moment]:
    """How a student came on in stages that its score judges, an item an evaluation."""
    rows = _on_select(evaluations, task)
    rows = rows[(rows["which"] == "last") & rows["stage"].isin(list(stages))].sort_values("step", kind="stable")
    best = rows["value"].cummax()
    return [Moment(int(step), float(score)) for step, score in zip(rows["step"], best, strict=True)]


def best_teacher(evaluations: pd.DataFrame, task: str) -> float:
    """The best teacher's score on `select`; NaN where none was scored."""
    rows = _on_select(evaluations, task)
    return float(rows.loc[rows["which"].str.startswith("teacher:"), "value"].max())


def _on_select(evaluations: pd.DataFrame, task: str) -> pd.DataFrame:
    metric = main_metric(task, evaluations)
    return evaluations[(evaluations["split"] == "select") & (evaluations["metric"] == metric)]


def columns(store: Store, runs: Iterable[str]) -> pd.DataFrame:
    """Rows of `Store.runs` by id, for these runs."""
    frame = store.runs(include_archived=True).set_index("id")
    return frame.loc[[run for run in runs if run in frame.index]]


def select_score(store: Store, run: str) -> float | None:
    """What a run's chosen student scores on `select`."""
    frame = columns(store, [run])
    value = frame["select_score"].iloc[0] if len(frame) else None
    return None if value is None or value != value else float(value)


def longest_training(store: Store, runs: Sequence[str]) -> float:
    """Seconds that the longest of these runs trained; what it waited for its teachers is not among them."""
    taken = [training_seconds(row.summary) for row in store.rows(runs).values()]
    return max((value for value in taken if value == value), default=0.0)


def seconds(store: Store, trials: Iterable[Mapping[str, Any]]) -> float:
    """What trials took; those whose run was there before took nothing."""
    runs = [str(trial["run"]) for trial in trials if trial.get("run") and not trial.get("reused")]
    return float(columns(store, runs)["seconds"].fillna(0.0).sum()) if runs else 0.0


def cost_of(record: SearchRecord, trial: Mapping[str, Any]) -> Cost:
    """What a trial's student costs."""
    costs = record.costs
    own = f"{trial['size']} | {trial['method']}"
    return Cost(**costs[own if own in costs else str(trial["size"])])


def best(store: Store, record: SearchRecord) -> int | None:
    """Number of the complete trial that answers the question: the best on `select` that keeps to the bound; where a
    share is asked, the cheapest that has it, and the best where none has. None where none is complete."""
    bound, axis = record.asked.bound, record.asked.bound.axis
    complete = [trial for trial in record.trials if trial["state"] == "complete"]
    frame = columns(store, [trial["run"] for trial in complete])["select_score"].dropna()
    done = [trial for trial in complete if trial["run"] in frame.index]  # runs may have been deleted since
    if not done:
        return None
    score = {int(trial["number"]): float(frame[trial["run"]]) for trial in done}
    cost = {int(trial["number"]): cost_of(record, trial).of(axis) for trial in done}
    ranked = sorted(score, key=lambda number: (-score[number], cost[number], number))
    if bound.share is None:
        return ranked[0]
    teacher = best_teacher(store.evaluations(done[0]["run"]), record.asked.run["task"])
    enough = [number for number in ranked if score[number] >= bound.share * teacher]
    return min(enough, key=lambda number: (cost[number], -score[number])) if enough else ranked[0]
