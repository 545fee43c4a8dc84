"""A finished run measured again on this machine: its models timed in turn, and, if asked, their undistilled rivals."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdcore.config import RunConfig, TrainConfig
from kdcore.data import load
from kdcore.data.encode import Encoded, encode
from kdcore.data.splits import Split, TaskData
from kdcore.engine import results
from kdcore.engine.device import Compute, compute_for
from kdcore.engine.evaluate import scores
from kdcore.engine.mean_row import mean_row
from kdcore.engine.predict import predict
from kdcore.errors import UserError
from kdcore.events import Event, Progress
from kdcore.identity import content
from kdcore.models.anatomy import anatomy
from kdcore.models.tokenizers import load_tokenizer
from kdcore.probes import compression_baselines, energy, latency
from kdcore.probes.compression_baselines import Rival
from kdcore.probes.latency import Precision
from kdcore.tasks import Task

REPEATS = 20
SECONDS = 15.0
"""Of timing, where so many repeats would take longer."""


def measure(
    run: RunConfig,
    folder: Path,
    facts: Mapping[str, Any],
    known: Mapping[str, Any],
    rivals_of: str | None = None,
    beside: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Times the run's student and teachers again, each on its own tokens of the mean dev row, at the precision and
    thread count of the run. Counts their energy, too, where the machine shows a counter.

    Yields progress and `Probed` "latency" ({"records": [...]}, see `latency.Latency`), and with `rivals_of` also
    "rivals": teacher, layers (of the cut one), precision (of the run), words and tokens (of the row, as the teacher
    reads it), models (name, kind, words,
    parameters, flops, bytes, scores: split -> metric -> value on the run's dev split), records, absent (kind -> why).
    Records of other conditions are kept. The same JSON goes to the run's `probes/`.

    Args:
        folder: the run's. facts: its `RunStarted.facts`. known: its probes so far. rivals_of: a teacher's name.
        beside: whether a training runs meanwhile, asked before and after timing.

    Raises:
        UserError: student or teacher are no longer on this disk, or the rows are not those the run was scored on.
    """
    compute = compute_here(run.train)
    with threads_of(facts):
        models, precisions = _models(folder, compute)
        row = _mean_row(run, folder, facts, models)
        built, absent, layers = _rivals(run, models, rivals_of, compute)
        rows = dev_rows(run, folder, results.teacher_folders(folder)[rivals_of]) if rivals_of else None
        models |= {name: rival.model for name, rival in built.items()}
        precisions |= {name: rival.precision for name, rival in built.items()}
        tokens = row["tokens"] | dict.fromkeys(built, row["tokens"].get(rivals_of))
        yield Progress(f"timing {len(models)} models in turn", 0, 1)
        records = latency.measure(
            models, tokens=tokens, words=row["words"], repeats=REPEATS, precision=precisions, seconds=SECONDS,
            beside=beside, meter=energy.open_meter(compute.device),
        )  # fmt: skip
        own = [record for record in records if record.name not in built]
        others = [record for record in records if record.name in built]
        step = int(facts.get("steps") or 0)
        yield results.keep_latency(folder, step, own, _records(known, "latency"))
        if rows is None:
            return
        descriptions = []
        for name, rival in built.items():
            descriptions.append({"name": name, **(yield from _describe(rival, rows, compute, tokens[name]))})
        data = {
            "teacher": rivals_of,
            "layers": layers,
            "precision": compute.precision,
            "words": row["words"],
            "tokens": row["tokens"][rivals_of],
            "models": descriptions,
            "records": latency.merge(_records(known, "rivals"), others),
            "absent": absent,
        }
        yield results.keep_probe(folder, "rivals", step, data)


def compute_here(train: TrainConfig) -> Compute:
    """The run's device and precision where this machine has them, else what it has."""
    device = "cpu" if train.device == "cpu" else "auto"
    precision = "fp32" if train.precision == "fp32" else "auto"
    return compute_for(train.model_copy(update={"device": device, "precision": precision}))


@contextmanager
def threads_of(facts: Mapping[str, Any]) -> Iterator[None]:
    """As many CPU threads as the run had, where this machine has so many.

    facts: its `RunStarted.facts`.
    """
    before, wanted = torch.get_num_threads(), facts.get("threads")
    if isinstance(wanted, int):
        torch.set_num_threads(max(1, min(wanted, os.cpu_count() or 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _models(folder: Path, compute: Compute) -> tuple[dict[str, nn.Module], dict[str, Precision]]:
    models = {"student": results.student(folder)[0]}
    models |= {name: model for name, (model, _) in results.teachers(folder).items()}
    precision: Precision = compute.precision
    return {name: model.to(compute.device) for name, model in models.items()}, dict.fromkeys(models, precision)


def _mean_row(run: RunConfig, folder: Path, facts: Mapping[str, Any], models: Iterable[str]) -> Mapping[str, Any]:
    """The run's mean dev row, see `mean_row`; counted where the run, of an older version, has not said it."""
    if row := facts.get("row"):
        return row  # type: ignore[no-any-return]
    homes = {"student": folder / "student-best", **results.teacher_folders(folder)}
    read = {name: dev_rows(run, folder, homes[name]) for name in models}
    data = read["student"][0]
    return mean_row(data.splits[data.task.splits[0]], {name: rows for name, (_, rows) in read.items()})


def _rivals(
    run: RunConfig, models: Mapping[str, nn.Module], teacher: str | None, compute: Compute
) -> tuple[dict[str, Rival], dict[str, str], list[int]]:
    """The rivals under names that no teacher can have, why others are absent, and the layers of the cut one."""
    if teacher is None:
        return {}, {}, []
    if teacher not in models:
        raise absent_teacher(teacher)
    student, whole = (len(anatomy(models[name]).layers) for name in ("student", teacher))
    layers = compression_baselines.kept_layers(run.student, student, whole)
    built, absent = compression_baselines.build(models[teacher], layers, compute.precision)
    return {f"{teacher}:{rival.kind}": rival for rival in built}, absent, layers


def absent_teacher(name: str | None) -> UserError:
    """What to raise where a run's teacher is not on this disk."""
    return UserError("teacher", f"{name} is no longer where the run found it", "train it again with a clone of the run")


def scored_split(run: RunConfig, facts: Mapping[str, Any]) -> tuple[Task, Split]:
    """The run's task, and the dev split that it reports first.

    Raises:
        UserError: the rows are not here, or not those that the run was scored on.
    """
    data = load(run.task, run.own)
    if (rows := content(facts).rows) and not data.has_fingerprint(rows):
        raise UserError("task", "its rows are not those this run was scored on", "bring back those files")
    return data.task, data.splits[data.task.splits[0]]


def dev_rows(run: RunConfig, folder: Path, model: Path) -> tuple[TaskData, Encoded]:
    """The dev split that the run reports first, as a model of it reads the rows.

    folder: the run's. model: whose tokenizer is used.

    Raises:
        UserError: the rows are not here, or not those that the run was scored on.
    """
    data = load(run.task, run.own)
    split = data.task.splits[0]
    rows = encode(data.splits[split], load_tokenizer(model), run.train.max_length)
    before = results.predictions(folder).get((split, "student"))
    if before is not None and not (
        np.array_equal(before["ids"], rows.ids) and np.array_equal(before["labels"], rows.labels)
    ):
        raise UserError("task", "its dev split is not the one this run was scored on", "bring back those files")
    return data, rows


def _describe(
    rival: Rival, dev: tuple[TaskData, Encoded], compute: Compute, tokens: int
) -> Generator[Event, None, dict[str, Any]]:
    """What a rival is, costs and scores; its arithmetic is its own, only the cut one runs as the run did."""
    data, rows = dev
    own = compute if rival.kind == "cut" else Compute(compute.device, "fp32")
    logits = yield from predict(rival.model, rows, own, f"scoring the teacher, {rival.words}")
    size = compression_baselines.footprint_of(rival, tokens).data()
    return {
        "kind": rival.kind,
        "words": rival.words,
        "precision": rival.precision,
        **size,
        "scores": {data.task.splits[0]: scores(data.task, logits, rows.labels)},
    }


def _records(probes: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    probe = probes.get(name)
    records = probe.get("records") if isinstance(probe, Mapping) else None
    return [record for record in records if isinstance(record, Mapping)] if isinstance(records, list) else []
