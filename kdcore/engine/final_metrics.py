"""What is measured once a student is trained: scores of best and last, fidelity, distances, latency."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kdcore.config import RunConfig
from kdcore.data.encode import Encoded, pad, sorted_order
from kdcore.engine.ensemble import Teacher
from kdcore.engine.evaluate import scores
from kdcore.engine.loop import Job
from kdcore.engine.predict import predict
from kdcore.engine.results import keep_probe
from kdcore.engine.teachers import Rows
from kdcore.events import Evaluated, Event, Probed, Progress
from kdcore.models.count import row_length
from kdcore.models.observe import observe
from kdcore.models.students import load_classifier
from kdcore.probes import distances, fidelity, latency
from kdcore.records import ALL_LAYERS

DISTANCE_ROWS = 256
"""Dev rows that the layer distances are taken over."""


def final(run: RunConfig, job: Job, teachers: list[Teacher], rows: Rows) -> Generator[Event, None, dict[str, Any]]:
    """All readings of a finished run; returns the summary."""
    last, said = yield from _score(job, job.main, "last")
    best, model = last, job.main
    if job.place.best_step != job.place.step:
        model = load_classifier(job.folder / "student-best", job.task.outputs).to(job.where.device)
        best, said = yield from _score(job, model, "best")
    else:
        for split, got in last.items():
            yield Evaluated("end", job.place.step, split, "best", got, len(job.splits[split]))
    for split, encoded in job.splits.items():
        _keep_predictions(job, split, "student", said[split], encoded)
    if teachers:
        yield from _fidelity(run, job, teachers, said)
    if run.probes.distances and teachers:
        yield from _distances(job, teachers, model)
    if run.probes.latency:
        yield from _latency(job, teachers, model, rows)
    return {
        "scores": {"last": last, "best": best},
        "main_metric": job.task.main_metric,
        "best_step": job.place.best_step,
    }


def kept(job: Job) -> Generator[Event, None, dict[str, Any]]:
    """The scores of a student that was stopped early."""
    got, _ = yield from _score(job, job.main, "last")
    return {"scores": {"last": got}, "main_metric": job.task.main_metric}


def _score(
    job: Job, model: nn.Module, which: str
) -> Generator[Event, None, tuple[dict[str, dict[str, float]], dict[str, NDArray[np.float32]]]]:
    got: dict[str, dict[str, float]] = {}
    said: dict[str, NDArray[np.float32]] = {}
    for split, encoded in job.splits.items():
        said[split] = yield from predict(model, encoded, job.where, f"scoring {split}, {which} weights")
        got[split] = scores(job.task, said[split], encoded.labels)
        yield Evaluated("end", job.place.step, split, which, got[split], len(encoded))
    return got, said


def _fidelity(
    run: RunConfig, job: Job, teachers: list[Teacher], student: dict[str, NDArray[np.float32]]
) -> Generator[Event, None, None]:
    """Agreement and KL with each teacher on every dev split, and every teacher's predictions for the pages."""
    found: dict[str, Any] = {}
    for teacher in teachers:
        for split, encoded in job.splits.items():
            logits = yield from job.ensemble.logits(teacher.name, encoded, f"teacher {teacher.name} on {split}")
            _keep_predictions(job, split, teacher.name, logits, encoded)
            if split != "select":
                got = fidelity.compare(logits, student[split], job.task.kind == "regression")
                found.setdefault(teacher.name, {})[split] = got
    if run.probes.fidelity:
        yield _probed(job, "fidelity", found)


def _distances(job: Job, teachers: list[Teacher], student: nn.Module) -> Generator[Event, None, None]:
    """Each student layer against each layer of the first teacher, over some dev rows; `others`: name -> the same."""
    split = job.task.splits[0]
    encoded = job.splits[split]
    chosen = np.linspace(0, len(encoded) - 1, min(DISTANCE_ROWS, len(encoded))).astype(np.int64)
    found = []
    for teacher in teachers:
        measured = yield from _distance(job, teacher, student, encoded, chosen)
        found.append({**measured.data(), "teacher": teacher.name, "split": split, "rows": len(chosen)})
    yield _probed(job, "distances", {**found[0], "others": {one["teacher"]: one for one in found[1:]}})


def _distance(
    job: Job, teacher: Teacher, student: nn.Module, encoded: Encoded, chosen: NDArray[np.int64]
) -> Generator[Event, None, distances.Distances]:
    model = teacher.load().to(job.where.device)
    meter = distances.DistanceMeter()
    batches = sorted_order(encoded.lengths[chosen], 32)
    student.eval()
    for done, batch in enumerate(batches, start=1):
        encoding = pad(encoded, chosen[batch], job.where.pad_to).to(job.where.device)
        states = [observe(one, encoding, {"hidden": ALL_LAYERS}, grad=False).hidden for one in (model, student)]
        meter.update(states[0], states[1], encoding.attention_mask)
        yield Progress(f"layer distances to teacher {teacher.name}", done, len(batches))
    return meter.result()


def _latency(job: Job, teachers: list[Teacher], student: nn.Module, rows: Rows) -> Generator[Event, None, None]:
    """Student and teachers in turn, at the task's mean length."""
    yield Progress("timing student and teachers", 0, 1)
    models = {"student": student, **{t.name: t.load().to(job.where.device) for t in teachers}}
    tokens = row_length(float(rows.train.lengths.mean()))
    records = latency.measure(models, tokens=tokens, precision=job.where.precision, repeats=20, seconds=10.0)
    yield _probed(job, "latency", {"records": [record.data() for record in records]})


def _probed(job: Job, name: str, data: dict[str, Any]) -> Probed:
    return keep_probe(job.folder, name, job.place.step, data)


def _keep_predictions(job: Job, split: str, model: str, logits: NDArray[np.float32], rows: Encoded) -> None:
    folder = job.folder / "predictions"
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"{split}.{model}.npz", logits=logits, labels=rows.labels, ids=rows.ids)
