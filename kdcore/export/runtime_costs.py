"""A finished run's student and teacher as they would be deployed: in each runtime their own dev score, latency by
batch, length and threads, size and memory. All of it in one process and one session, models and runtimes in turn."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.config import RunConfig
from kdcore.data.encode import Encoded
from kdcore.engine import measure_process, remeasure, results
from kdcore.engine.evaluate import scores
from kdcore.errors import UserError
from kdcore.events import Event, Progress
from kdcore.export.onnx_file import write_int8, write_onnx
from kdcore.export.peak_memory import peak_memory
from kdcore.export.runtimes import INT8, ONNX, RUNTIMES, Logits, Runner, Runtime, logits_of, runner, timed_pass
from kdcore.models.anatomy import anatomy
from kdcore.models.count import row_length
from kdcore.models.sizes import usable_positions
from kdcore.models.students import load_classifier
from kdcore.models.weights import write_model
from kdcore.probes import compression_baselines, latency
from kdcore.probes.forward_pass import threads
from kdcore.tasks import Task

BATCHES = (1, 8, 32)
ROUNDS, WARMUP = 40, 1
SECONDS = 5.0
"""Of timing each batch size, length and number of threads, where so many rounds would take longer."""
MOST_ROWS = 1000
"""Of the dev split, evenly drawn, that every runtime answers."""

LENGTHS = {"mean": "dev rows of mean length", "p95": "of the 95th percentile", "maximum": "of the largest length"}
"""At which models are timed, each on its own tokens -> in words."""

COMPARED: dict[Runtime, Runtime] = {
    "torch-bf16": "torch-fp32", "onnx-fp32": "torch-fp32", "onnx-int8": "onnx-fp32", "openvino-fp32": "torch-fp32",
}  # fmt: skip
"""Runtime -> the one whose answers its own are held against."""
CLOSE = 0.01
"""Two scores of a regression that are nearer are one answer."""


@dataclass(frozen=True)
class Deployed:
    """A model in a runtime. kind: student, teacher or cut. weights: bytes of the file that the runtime reads.
    vocabulary: words there are. longest: tokens of a row that it can read."""

    name: str
    kind: str
    words: str
    runtime: Runtime
    folder: Path
    weights: int
    vocabulary: int
    longest: int

    @property
    def key(self) -> tuple[str, Runtime]:
        return self.name, self.runtime


@dataclass(frozen=True)
class Home:
    """A model before it is converted. folder: of its weights. tokenizer: the folder of its tokenizer."""

    kind: str
    words: str
    folder: Path
    tokenizer: Path


@dataclass(frozen=True)
class Answers:
    """How a runtime's answers compare with another's on the same rows. lost, gained: of the changed ones, right before
    and wrong now, and the other way round; None for scores."""

    rows: int
    changed: int
    lost: int | None
    gained: int | None


def measure(
    run: RunConfig,
    folder: Path,
    facts: Mapping[str, Any],
    known: Mapping[str, Any],
    rivals_of: str | None = None,
    beside: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Measures a run's student and, where named, a teacher and that teacher cut to the student's depth.

    Yields progress and `Probed` "runtimes": tokens (name of a model -> name of a length -> tokens as it reads the dev
    rows), split, rows (answered) of all_rows, hardware, session, versions, busy; models (name, kind, words, runtime,
    disk and memory in bytes, scores: metric -> value, `answers`: see `Answers`, with the runtime it is held `against`);
    records (name, runtime, batch, length, tokens, threads, p50_ms, p95_ms, per_second, repeats, busy); absent (name,
    runtime, why). An earlier measurement is replaced. The same JSON goes to the run's `probes/`.

    Args:
        folder: the run's. facts: its `RunStarted.facts`. known: unused, for the form of `remeasure.measure`.
        rivals_of: a teacher's name.
        beside: whether a training runs meanwhile, asked before and after timing.

    Raises:
        UserError: student or teacher are no longer on this disk, or the rows are not those the run was scored on.
    """
    with tempfile.TemporaryDirectory() as place:
        homes = _homes(run, folder, Path(place), rivals_of)
        read = {name: remeasure.dev_rows(run, folder, home.tokenizer) for name, home in homes.items()}
        task, rows_of = read["student"][0].task, {name: rows for name, (_, rows) in read.items()}
        models: list[Deployed] = []
        absent: list[dict[str, str]] = []
        for number, (name, home) in enumerate(homes.items()):
            yield Progress(f"converting {home.words}", number, len(homes))
            made, missing = _converted(name, home, Path(place) / str(number))
            models += made
            absent += [{"name": name, "runtime": runtime, "why": why} for runtime, why in missing.items()]
        tokens, count = _lengths(rows_of, models), len(rows_of["student"])
        described = yield from _described(rows_of, models, task, tokens)
        times, busy = yield from _timed(models, tokens, beside)
        found = {
            "tokens": tokens, "split": task.splits[0], "rows": min(MOST_ROWS, count), "all_rows": count,
            "hardware": latency.hardware_name(), "session": uuid.uuid4().hex[:8], "versions": _versions(),
            "busy": busy, "models": described, "records": times, "absent": absent,
        }  # fmt: skip
        yield results.keep_probe(folder, "runtimes", int(facts.get("steps") or 0), found)


def compare(task: Task, before: Logits, after: Logits, labels: NDArray[Any]) -> Answers:
    """How the answers of two runtimes to the same rows differ.

    >>> from kdcore.tasks import TASKS
    >>> one, two = np.array([[1, 0], [1, 0.0]], np.float32), np.array([[1, 0], [0, 1.0]], np.float32)
    >>> compare(TASKS["mrpc"], one, two, np.array([0, 0]))
    Answers(rows=2, changed=1, lost=1, gained=0)
    """
    if task.kind == "regression":
        return Answers(len(labels), int((np.abs(before - after)[:, 0] >= CLOSE).sum()), None, None)
    one, two = before.argmax(1), after.argmax(1)
    lost, gained = (one == labels) & (two != labels), (one != labels) & (two == labels)
    return Answers(len(labels), int((one != two).sum()), int(lost.sum()), int(gained.sum()))


def _homes(run: RunConfig, folder: Path, place: Path, teacher: str | None) -> dict[str, Home]:
    """The models by names that no teacher can have but its own."""
    student = folder / "student-best"
    if not student.is_dir():
        raise UserError("run", f"{folder.name} kept no best student", "choose a run that is done, or resume it")
    homes = {"student": Home("student", "the student", student, student)}
    if teacher is None:
        return homes
    home = results.teacher_folders(folder).get(teacher)
    if home is None:
        raise UserError(
            "teacher", f"{teacher} is no longer where the run found it", "train it again with a clone of the run"
        )
    homes[teacher] = Home("teacher", f"teacher {teacher}", home, home)
    whole = load_classifier(home)
    depths = (len(anatomy(model).layers) for model in (load_classifier(student), whole))
    if kept := compression_baselines.kept_layers(run.student, *depths):
        write_model(compression_baselines.cut(whole, kept), place / "cut")
        homes[f"{teacher}:cut"] = Home(
            "cut", f"teacher {teacher}, cut to layers {', '.join(map(str, kept))}", place / "cut", home
        )
    return homes


def _converted(name: str, home: Home, place: Path) -> tuple[list[Deployed], dict[str, str]]:
    """The model in each runtime, and why it is not in others: one that fails does not keep it from the rest."""
    model = load_classifier(home.folder)
    vocabulary, longest = anatomy(model).vocabulary, usable_positions(model.config)
    weights = sum(file.stat().st_size for file in home.folder.glob("*.safetensors"))
    found, absent = [], {}
    place.mkdir()
    for runtime in RUNTIMES:
        of_torch = runtime.startswith("torch")
        folder = home.folder if of_torch else place
        try:
            file = None if of_torch else _file(runtime, home.folder, place)
            runner(runtime, folder)
        except UserError as error:
            absent[str(runtime)] = f"{error.problem}; {error.remedy}"
            continue
        size = weights if file is None else file.stat().st_size
        found.append(Deployed(name, home.kind, home.words, runtime, folder, size, vocabulary, longest))
    return found, absent


def _file(runtime: Runtime, folder: Path, place: Path) -> Path:
    """The file that a runtime reads, made where it is not there yet."""
    whole, small = place / ONNX, place / INT8
    if not whole.exists():
        write_onnx(folder, whole)
    if runtime != "onnx-int8":
        return whole
    write_int8(whole, small)
    return small


def _lengths(rows_of: Mapping[str, Encoded], models: list[Deployed]) -> dict[str, dict[str, int]]:
    """Of each model the mean, 95th percentile and maximum of the dev rows' tokens as it reads them; no more than it
    can read."""
    lengths = {}
    for one in models:
        if one.name not in lengths:
            own, most = rows_of[one.name].lengths, one.longest
            found = {"mean": own.mean(), "p95": np.percentile(own, 95), "maximum": own.max()}
            lengths[one.name] = {name: min(most, row_length(float(tokens))) for name, tokens in found.items()}
    return lengths


def _described(
    all_rows: Mapping[str, Encoded], models: list[Deployed], task: Task, tokens: Mapping[str, Mapping[str, int]]
) -> Generator[Event, None, list[dict[str, Any]]]:
    """Of each model in each runtime what it is, weighs, holds and scores."""
    described: list[dict[str, Any]] = []
    answers: dict[tuple[str, Runtime], Logits] = {}
    rows_of = {name: _drawn(rows) for name, rows in all_rows.items()}
    for done, one in enumerate(models):
        yield Progress(f"scoring {one.words}, {RUNTIMES[one.runtime]}", done, len(models))
        rows, base = rows_of[one.name], COMPARED.get(one.runtime)
        answers[one.key] = logits = logits_of(runner(one.runtime, one.folder), rows)
        before = answers.get((one.name, base)) if base else None
        longest = tokens[one.name]["maximum"]
        held = peak_memory(one.runtime, one.folder, max(BATCHES), longest, one.vocabulary, _cores())
        described.append({
            "name": one.name, "kind": one.kind, "words": one.words, "runtime": one.runtime, "disk": one.weights,
            "memory": held, "scores": scores(task, logits, rows.labels), "against": base,
            "answers": None if before is None else asdict(compare(task, before, logits, rows.labels)),
        })  # fmt: skip
    return described


def _drawn(rows: Encoded) -> Encoded:
    """At most `MOST_ROWS` of the rows, evenly over the split."""
    if len(rows) <= MOST_ROWS:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, MOST_ROWS).round().astype(np.int64))


def _timed(
    models: list[Deployed], tokens: Mapping[str, Mapping[str, int]], beside: Callable[[], bool]
) -> Generator[Event, None, tuple[list[dict[str, Any]], bool]]:
    """Times of every model in every runtime, which take turns under each condition; and whether other work disturbed
    any of them."""
    records: list[dict[str, Any]] = []
    accompanied, disturbed = beside(), False
    conditions = [(count, batch, length) for count in dict.fromkeys((1, _cores())) for length in _distinct(tokens)
                  for batch in BATCHES]  # fmt: skip
    loaded: dict[tuple[str, Runtime], Runner] = {}
    before = 0
    for done, (count, batch, length) in enumerate(conditions):
        yield Progress(f"timing batches of {batch}, {LENGTHS[length]}, {count} thread(s)", done, len(conditions))
        with threads(count):
            if count != before:
                loaded, before = {one.key: runner(one.runtime, one.folder) for one in models}, count
            passes = {
                one.key: timed_pass(loaded[one.key], batch, tokens[one.name][length], one.vocabulary) for one in models
            }
            foreign = latency.foreign_cores()
            times = latency.take_turns(passes, ROUNDS, WARMUP, SECONDS)
            busy = latency.is_busy(max(foreign, latency.foreign_cores()), count)
        disturbed = disturbed or busy
        records += [
            _record(key, batch, count, taken, busy or accompanied)
            | {"length": length, "tokens": tokens[key[0]][length]}
            for key, taken in times.items()
        ]
    records += _at_equal_lengths(records, tokens)
    if beside() and not accompanied:
        records, disturbed = [record | {"busy": True} for record in records], True
    return records, disturbed or accompanied


def _distinct(tokens: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The lengths without those at which every model reads as many tokens as at one before."""
    seen = {tuple(of_model[name] for of_model in tokens.values()): name for name in reversed(LENGTHS)}
    return [name for name in LENGTHS if name in seen.values()]


def _at_equal_lengths(records: list[dict[str, Any]], tokens: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """The records once more under the names of lengths at which every model reads as many tokens."""
    first = {tuple(of_model[name] for of_model in tokens.values()): name for name in reversed(LENGTHS)}
    measured = {name: first[tuple(of_model[name] for of_model in tokens.values())] for name in LENGTHS}
    return [
        record | {"length": name} for name, other in measured.items() if name != other
        for record in records if record["length"] == other
    ]  # fmt: skip


def _record(key: tuple[str, Runtime], batch: int, threads: int, seconds: list[float], busy: bool) -> dict[str, Any]:
    p50, p95 = np.percentile(np.array(seconds) * 1000, (50, 95)).tolist()
    return {
        "name": key[0], "runtime": key[1], "batch": batch, "threads": threads, "p50_ms": p50,
        "p95_ms": p95, "per_second": 1000 * batch / p50, "repeats": len(seconds), "busy": busy,
    }  # fmt: skip


def _cores() -> int:
    """CPU threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    """Of the packages that compute, those that are here."""
    found = {}
    for name in ("torch", "onnxruntime", "openvino"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    measure_process.main(measure)
