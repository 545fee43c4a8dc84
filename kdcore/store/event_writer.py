"""Events -> rows. No database here: a run's events become lists of dicts and changes of its row."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdcore import events
from kdcore.events import Event
from kdcore.tasks import TASKS


@dataclass
class Batch:
    """What one call of `Store.record` writes. changes: columns of the run's row; facts and progress are merged in."""

    metrics: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    evaluations: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    probes: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    progress: dict[str, Any] = field(default_factory=dict)


def gather(flush: Iterable[Event], run: int, batch_size: int | None) -> Batch:
    """All events of one flush; of two with the same key the later one counts."""
    batch = Batch()
    for event in flush:
        _take(batch, event, run, batch_size)
    return batch


def _take(batch: Batch, event: Event, run: int, batch_size: int | None) -> None:
    match event:
        case events.RunStarted():
            batch.facts.update(event.facts)
            batch.changes.update(state="running", reason="", remedy="", detail="")
            if (parameters := student_parameters(event.facts)) is not None:
                batch.changes["parameters"] = parameters
            if event.facts.get("device"):
                batch.changes["device"] = str(event.facts["device"])
            if isinstance(event.facts.get("steps"), int):
                batch.progress["steps"] = event.facts["steps"]
        case events.StageStarted():
            batch.stages.append(
                {"stage": event.stage, "index": event.index, "first_step": event.first_step, "steps": event.steps,
                 "pilot": event.pilot}
            )  # fmt: skip
            batch.changes["state"] = "running"
            batch.progress.update(stage=event.stage, what="", done=0, total=0)
        case events.Progress():
            batch.changes["state"] = "running"
            batch.progress.update(what=event.what, done=event.done, total=event.total)
        case events.StepDone():
            _take_step(batch, event, run, batch_size)
        case events.Evaluated():
            _take_scores(batch, event, run)
        case events.Probed():
            row = {"run": run, "name": event.name, "step": event.step, "data": event.data}
            batch.probes[event.name, event.step] = row
            if event.name == "latency" and (latency := student_latency(event.data)) is not None:
                batch.changes["latency_ms"] = latency
        case events.Checkpointed():
            batch.progress["checkpoint"] = event.step
            batch.changes["attempts"] = 0
        case events.RunFinished():
            _finish(batch, "done", event.summary)
        case events.RunStopped():
            _finish(batch, "stopped", event.summary)
            kept = "the student was saved" if event.kept else event.why_not or "nothing was kept"
            batch.changes["reason"] = f"stopped at step {event.step}; {kept}"
        case events.RunFailed():
            _finish(batch, "failed", {})
            batch.changes.update(reason=event.reason, remedy=event.remedy, detail=event.detail)


def _finish(batch: Batch, state: str, summary: Mapping[str, Any]) -> None:
    batch.changes.update(state=state, finished=time.time(), reason="", remedy="", detail="")
    batch.progress.update(what="", eta_s=0.0 if state == "done" else None)
    if summary:
        batch.changes["summary"] = dict(summary)
    if isinstance(summary.get("seconds"), (int, float)):
        batch.changes["seconds"] = float(summary["seconds"])


def _take_step(batch: Batch, event: events.StepDone, run: int, batch_size: int | None) -> None:
    for kind, name, value in event.values():
        batch.metrics[event.stage, event.step, kind, name] = {
            "run": run, "stage": event.stage, "step": event.step, "kind": kind, "name": name,
            "epoch": event.epoch, "seconds": event.seconds, "value": float(value),
        }  # fmt: skip
    speed = event.examples_per_second
    eta = (event.steps - event.step) * batch_size / speed if batch_size and speed > 0 else None
    batch.changes.update(state="running", seconds=event.seconds)
    batch.progress.update(
        step=event.step, steps=event.steps, stage=event.stage, epoch=event.epoch, what="", done=0, total=0,
        examples_per_second=speed, eta_s=eta, loss=event.loss,
    )  # fmt: skip


def _take_scores(batch: Batch, event: events.Evaluated, run: int) -> None:
    for metric, value in event.scores.items():
        batch.evaluations[event.stage, event.step, event.split, event.which, metric] = {
            "run": run, "stage": event.stage, "step": event.step, "split": event.split, "which": event.which,
            "metric": metric, "value": float(value), "rows": event.rows,
        }  # fmt: skip


def score_columns(task: str, rows: Sequence[Any], stages: Sequence[Any]) -> dict[str, Any]:
    """The scores a list shows, from the run's evaluations (rows with stage, step, split, which, metric, value).

    score: dev score of the student that `select` chose; while the run lasts, of the best so far by `select`.
    last_score: dev score of the last student. select_score: of the chosen student. Pilot stages train other students.
    """
    pilots = {stage.get("stage") for stage in stages if isinstance(stage, Mapping) and stage.get("pilot")}
    rows = [row for row in rows if row.which in ("best", "last") and row.value is not None and row.stage not in pilots]
    if not rows:
        return {}
    known = TASKS.get(task)
    dev = known.splits[0] if known else "validation"
    metric = known.main_metric if known else rows[0].metric
    rows = sorted((row for row in rows if row.metric == metric), key=lambda row: row.step)
    on_select = [row for row in rows if row.split == "select"]
    on_select = [row for row in on_select if row.which == "best"] or on_select
    last = {row.step: row.value for row in rows if row.split == dev and row.which == "last"}
    best = [row.value for row in rows if row.split == dev and row.which == "best"]
    chosen = max(on_select, key=lambda row: row.value, default=None)
    score = best[-1] if best else last.get(chosen.step) if chosen else None
    return {
        "metric": metric,
        "score": score,
        "last_score": last[max(last)] if last else None,
        "select_score": chosen.value if chosen else None,
    }


def student_parameters(facts: Mapping[str, Any]) -> int | None:
    """The student's parameter count in the facts of a run: a number, or one per model."""
    count = facts.get("parameters")
    while isinstance(count, Mapping):
        count = count.get("student", count.get("total"))
    return int(count) if isinstance(count, (int, float)) and not isinstance(count, bool) else None


def student_latency(data: Any) -> float | None:
    """Median milliseconds of the student at the smallest batch, wherever the probe's records stand in its data."""
    records = [record for record in _records(data) if record.get("name") == "student" and "median_ms" in record]
    smallest = min(records, key=lambda record: record.get("batch", 0), default=None)
    return float(smallest["median_ms"]) if smallest else None


def _records(data: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        if "median_ms" in data:
            yield data
        for value in data.values():
            yield from _records(value)
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _records(value)
