"""What is measured once a student is trained: scores of best and last, fidelity, distances, latency."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from kdcore.config import ProbeConfig
from kdcore.data.encode import Encoded, pad
from kdcore.engine.evaluate import scores
from kdcore.engine.job import Job
from kdcore.engine.predict import predict
from kdcore.engine.results import keep_latency, keep_probe
from kdcore.events import Evaluated, Event, Probed, Progress
from kdcore.models.students import load_classifier
from kdcore.probes import distances, fidelity, latency, saliency

Scores = dict[str, dict[str, float]]
"""Split -> metric -> value."""
Logits = dict[str, NDArray[np.float32]]
"""Split -> [rows, outputs]."""


def finish(probes: ProbeConfig, job: Job) -> Generator[Event, None, dict[str, Any]]:
    """Scores and probes of a student that was trained to its end; returns the run's summary."""
    last, logits = yield from _score(job, job.main, "last")
    yield from _learners(job, logits)
    best, model = last, job.main
    if job.state.best_step != job.state.step:
        model = load_classifier(job.folder / "student-best", job.task.outputs).to(job.compute.device)
        best, logits = yield from _score(job, model, "best")
    else:
        for split, metrics in last.items():
            yield Evaluated("end", job.state.step, split, "best", metrics, len(job.splits[split]))
    for split, encoded in job.splits.items():
        _keep_predictions(job, split, "student", logits[split], encoded)
    if job.ensemble.teachers:
        yield from _fidelity(probes, job, logits)
    if probes.distances and job.ensemble.teachers:
        yield from _distances(job, model)
    if probes.saliency and job.ensemble.teachers:
        yield from _saliency(job, model)
    if probes.latency:
        yield from _latency(job, model)
    return {
        "scores": {"last": last, "best": best},
        "main_metric": job.task.main_metric,
        "best_step": job.state.best_step,
    }


def stop_early(job: Job) -> Generator[Event, None, dict[str, Any]]:
    """The scores of a student that was stopped early."""
    last, _ = yield from _score(job, job.main, "last")
    return {"scores": {"last": last}, "main_metric": job.task.main_metric}


def _score(job: Job, model: nn.Module, which: str) -> Generator[Event, None, tuple[Scores, Logits]]:
    metrics: Scores = {}
    logits: Logits = {}
    for split, encoded in job.splits.items():
        logits[split] = yield from predict(model, encoded, job.compute, f"scoring {split}, {which} weights")
        metrics[split] = scores(job.task, logits[split], encoded.labels)
        yield Evaluated("end", job.state.step, split, which, metrics[split], len(encoded))
    return metrics, logits


def _learners(job: Job, student: Logits) -> Generator[Event, None, None]:
    """Scores of others that the method trained, and of the mean of those that belong together, on the dev splits."""
    for name, roles in job.method.learners().items():
        for split, encoded in ((split, rows) for split, rows in job.splits.items() if split != "select"):
            answers: dict[str, NDArray[Any]] = {}
            for role in roles:
                model = job.students[role]
                known = model is job.main
                answers[role] = (
                    student[split]
                    if known
                    else (yield from predict(model, encoded, job.compute, f"scoring {split}, {role}"))
                )
            if len(roles) > 1:
                answers[f"mean of {name}"] = mean_answer(list(answers.values()), job.task.kind == "regression")
            for who, logits in answers.items():
                metrics = scores(job.task, logits, encoded.labels)
                yield Evaluated("end", job.state.step, split, f"learner:{who}", metrics, len(encoded))


def mean_answer(logits: list[NDArray[np.float32]], regression: bool) -> NDArray[np.float64]:
    """What several models say together: the mean of their probabilities, for scores of these; [rows, outputs]."""
    said = np.stack(logits).astype(np.float64)
    return (said if regression else softmax(said, axis=-1)).mean(0)  # type: ignore[no-any-return]


def _fidelity(probes: ProbeConfig, job: Job, student: Logits) -> Generator[Event, None, None]:
    """Agreement and KL with each teacher on every dev split, and every teacher's predictions for the pages."""
    by_teacher: dict[str, Any] = {}
    for name in job.ensemble.teachers:
        for split, encoded in job.splits.items():
            logits = yield from job.ensemble.logits(name, encoded, f"teacher {name} on {split}")
            _keep_predictions(job, split, name, logits, encoded)
            if split != "select":
                agreement = fidelity.compare(logits, student[split], job.task.kind == "regression")
                by_teacher.setdefault(name, {})[split] = agreement
    if probes.fidelity:
        yield _probe_event(job, "fidelity", by_teacher)


def _distances(job: Job, student: nn.Module) -> Generator[Event, None, None]:
    """Each student layer against each layer of the first teacher, over the dev rows of the snapshots; `others`: name ->
    the same."""
    split = job.task.splits[0]
    encoded = job.splits[split]
    rows = distances.sample(encoded.lengths)
    encoding = pad(encoded, rows).to(job.compute.device)
    ours, records, device = distances.layer_states(student, encoding), [], job.compute.device
    for done, teacher in enumerate(job.ensemble.teachers.values()):
        yield Progress(f"layer distances to teacher {teacher.name}", done, len(job.ensemble.teachers))
        model = teacher.load().to(device)
        if teacher.reading:
            readings = encoded.reading(teacher.reading), encoded
            distance = distances.compare_readings(model, student, readings, rows, device)
        else:
            distance = distances.compare_states(distances.layer_states(model, encoding), ours)
        records.append({**distance.data(), "teacher": teacher.name, "split": split, "rows": len(rows)})
    yield _probe_event(
        job, "distances", {**records[0], "others": {record["teacher"]: record for record in records[1:]}}
    )


def _saliency(job: Job, student: nn.Module) -> Generator[Event, None, None]:
    """Saliency loyalty to each teacher over rows of the first dev split; nothing of one that reads other tokens."""
    split = job.task.splits[0]
    encoded, device = job.splits[split], job.compute.device
    parts = [pad(encoded, rows).to(device) for rows in saliency.sample(encoded.lengths)]
    special, by_teacher = saliency.special_ids(job.tokenizer), {}
    alike = {name: teacher for name, teacher in job.ensemble.teachers.items() if not teacher.reading}
    for done, (name, teacher) in enumerate(alike.items()):
        yield Progress(f"saliency loyalty to teacher {name}", done, len(alike))
        found = saliency.loyalty(teacher.load().to(device), student, parts, special)
        by_teacher[name] = {key: value if np.isfinite(value) else None for key, value in found.items()}
    yield _probe_event(job, "saliency", {"split": split, "teachers": by_teacher})


def _latency(job: Job, student: nn.Module) -> Generator[Event, None, None]:
    """Student and teachers in turn, each on its own tokens of the mean dev row, and what memory they take."""
    yield Progress("timing student and teachers", 0, 1)
    models = {
        "student": student,
        **{name: t.load().to(job.compute.device) for name, t in job.ensemble.teachers.items()},
    }
    records = latency.measure(models, **job.row, precision=job.compute.precision, repeats=20, seconds=10.0)
    yield keep_latency(job.folder, job.state.step, records)


def _probe_event(job: Job, name: str, data: dict[str, Any]) -> Probed:
    return keep_probe(job.folder, name, job.state.step, data)


def _keep_predictions(job: Job, split: str, model: str, logits: NDArray[np.float32], rows: Encoded) -> None:
    folder = job.folder / "predictions"
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"{split}.{model}.npz", logits=logits, labels=rows.labels, ids=rows.ids)
