"""What each model of a run costs, as its facts, probes and files tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from kdcore.analysis.cost_axes import MIB
from kdcore.errors import UserError
from kdcore.models.count import flops, parameters, row_length
from kdcore.paths import run_dir
from kdcore.records import ModelSize
from kdcore.store import Store
from kdcore.tasks import TASKS

COLUMNS = ("run", "task", "kind", "label", "size", "quality", "axis", "place", "length", "cost", "busy", "session")


def cost_table(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run, model and axis, as far as it is known.

    kind: student, teacher, or a rival's. label: of the run's group for students, else the model's name. size: equal
    for models that cost the same, whatever their weights: a student's shape (the run's id where that is not known), the
    label of a teacher or rival. quality: ×100. place: hardware, precision and threads, where the cost depends on them;
    length: of the row, where it does, see `length_of`, else "". busy: timed on a busy machine. session: alike where
    models were timed in turn.

    Args:
        runs: rows of `Store.runs` with group and label.
    """
    ids = list(runs["id"])
    rows_of, measured = store.rows(ids), store.probes_of(ids)
    splits = [TASKS[task].splits[0] if task in TASKS else "validation" for task in runs["task"]]
    scores = _teacher_scores(
        store.evaluations(ids), dict(zip(ids, zip(runs["metric"], splits, strict=True), strict=True))
    )
    rows: list[dict[str, Any]] = []
    for (_, run), split in zip(runs.iterrows(), splits, strict=True):
        facts, probes = rows_of[run["id"]].facts, measured.get(run["id"], {})
        rows += of_run(run, facts, probes, scores[run["id"]], weights_on_disk(run["id"]), split)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def metrics_of(store: Store, runs: pd.DataFrame) -> list[str]:
    """The metrics that every one of these runs' students has on the first dev split, the main one first.

    Args:
        runs: rows of `Store.runs` of one task.
    """
    scores = _student_scores(store, runs)
    shared = set.intersection(*(set(of_run) for of_run in scores.values())) if scores else set()
    main = next((metric for metric in runs["metric"] if isinstance(metric, str) and metric), "")
    return sorted(shared | ({main} if main else set()), key=lambda metric: (metric != main, metric))


def scored_by(store: Store, runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The runs with this metric of the students that `select` chose as metric and score; NaN where it is not known."""
    scores = _student_scores(store, runs)
    return runs.assign(metric=metric, score=[scores[run].get(metric, float("nan")) for run in runs["id"]])


def _student_scores(store: Store, runs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Run -> metric -> score of the best student on the task's first dev split."""
    first = {
        run: TASKS[task].splits[0] if task in TASKS else "validation"
        for run, task in zip(runs["id"], runs["task"], strict=True)
    }
    scores: dict[str, dict[str, float]] = {run: {} for run in first}
    rows = store.evaluations(list(first))
    rows = rows[(rows["which"] == "best") & rows["value"].notna()]
    for run, split, metric, value in zip(rows["run"], rows["split"], rows["metric"], rows["value"], strict=True):
        if split == first[run]:
            scores[run][metric] = float(value)
    return scores


def _teacher_scores(evaluations: pd.DataFrame, wanted: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Run -> teacher -> score. wanted: run -> metric and split."""
    scores: dict[str, dict[str, float]] = {run: {} for run in wanted}
    rows = evaluations[evaluations["which"].str.startswith("teacher:")]
    columns = (rows[name] for name in ("run", "which", "metric", "split", "value"))
    for run, which, metric, split, value in zip(*columns, strict=True):
        if (metric, split) == wanted[run]:
            scores[run][which.removeprefix("teacher:")] = float(value)
    return scores


WORDS = "words"
"""Beside the axes: the share of a model's parameters that is in its table of words, in percent."""
TOKENS = "tokens"
"""Beside the axes: how many tokens of its own a model reads a row of some length as."""


def of_run(
    run: pd.Series,
    facts: Mapping[str, Any],
    probes: Mapping[str, Any],
    scores: Mapping[str, float],
    stored: Mapping[str, int],
    split: str,
) -> Iterator[dict[str, Any]]:
    """The rows of `readings` of one run.

    Args:
        scores: teacher -> dev score. stored: model -> bytes of its weights, of those that are on this disk. split: on
            which rivals were scored.
    """
    about = {"run": run["id"], "task": run["task"]}
    times = timings(probes, "latency")
    size_values, size = facts.get("student"), student_size(str(run["id"]), facts)
    student = about | {"kind": "student", "label": run["label"], "size": size, "quality": 100 * run["score"]}
    stored = {**recorded_sizes(times), **stored}
    yield from _sizes(
        student, size_values, lengths_of("student", facts, times), stored.get("student"), run["parameters"]
    )
    yield from timed(student, times, "student")
    described = facts.get("teachers")
    listed: Mapping[str, Any] = described if isinstance(described, Mapping) else {}
    for name in dict.fromkeys([*listed, *scores]):
        model = about | _model_row(teacher_label(name), "teacher", scores.get(name, float("nan")))
        teacher = listed.get(name)
        size_values = teacher.get("shape") if isinstance(teacher, Mapping) else None
        yield from _sizes(model, size_values, lengths_of(name, facts, times), stored.get(name), None)
        yield from timed(model, times, name)
    yield from _baselines(about, str(run["metric"]), probes, times, split)


def student_size(run: str, facts: Mapping[str, Any]) -> str:
    """Equal for runs whose students cost the same, with the tokens that they read a row as; the run's id where it has
    not said its student's shape."""
    values = facts.get("student")
    # the padding token's id costs nothing
    costly = sorted(item for item in values.items() if item[0] != "pad") if isinstance(values, Mapping) else []
    tokens = _row(facts)[1].get("student")
    return repr(costly + ([("tokens", tokens)] if tokens else [])) if costly else run


def length_of(record: Mapping[str, Any]) -> str:
    """How long the rows of a measurement are: `39 words`, which each model reads as tokens of its own; `53 tokens`
    where all models were given as many, as in older versions.

    >>> length_of({"words": 39, "tokens": 53}), length_of({"tokens": 53})
    ('39 words', '53 tokens')
    """
    if words := record.get("words"):
        return f"{words} word{'' if words == 1 else 's'}"
    tokens = record.get("tokens")
    return f"{tokens} tokens" if tokens else ""


def lengths_of(model: str, facts: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Length of a row -> the tokens that the model reads it as, of the run's own row and of those it was timed on."""
    words, tokens = _row(facts)
    mean = facts.get("mean_tokens")
    found = {}
    if words and tokens.get(model):
        found[length_of({"words": words})] = int(tokens[model])
    elif isinstance(mean, int | float):  # an older version, which gave all models the student's tokens
        found[length_of({"tokens": row_length(mean)})] = row_length(mean)
    timed_on = {length_of(one): int(one["tokens"]) for one in records if one.get("name") == model and one.get("tokens")}
    return found | timed_on


def _row(facts: Mapping[str, Any]) -> tuple[int, Mapping[str, int]]:
    """Words of the run's mean dev row, and model -> tokens; 0 and nothing where an older version ran."""
    row = facts.get("row")
    return (row.get("words", 0), row.get("tokens", {})) if isinstance(row, Mapping) else (0, {})


def teacher_label(name: str) -> str:
    return f"teacher {name}"


def _baselines(
    about: dict[str, Any], metric: str, probes: Mapping[str, Any], times: list[Mapping[str, Any]], split: str
) -> Iterator[dict[str, Any]]:
    """A rival stands wherever the run's own models were timed on the same hardware, threads and length.

    Its own precision is part of what it is; only the cut teacher computes in the run's.
    """
    baselines = probes.get("rivals")
    if not isinstance(baselines, Mapping):
        return
    beside = {(_machine(record), str(record.get("precision"))) for record in times}
    for model in baselines.get("models", []):
        score = float(model.get("scores", {}).get(split, {}).get(metric, float("nan")))
        row = about | _model_row(
            f"teacher {baselines.get('teacher')}, {model.get('words')}", str(model.get("kind")), score
        )
        yield row | _cost("parameters", model.get("parameters"))
        yield row | _cost("flops", model.get("flops"), length_of(baselines))
        yield row | _cost(TOKENS, baselines.get("tokens"), length_of(baselines))
        yield row | _cost("disk", model.get("bytes", float("nan")) / MIB)
        for record in timings(probes, "rivals"):
            precisions = {precision for machine, precision in beside if machine == _machine(record)}
            if model.get("kind") == "cut":
                precisions = {str(record.get("precision"))}
            for precision in sorted(precisions):
                yield from timed(row, [{**record, "precision": precision}], str(model.get("name")))


def _model_row(label: str, kind: str, score: float) -> dict[str, Any]:
    return {"kind": kind, "label": label, "size": label, "quality": 100 * score}


def _sizes(
    model: dict[str, Any], size_values: Any, lengths: Mapping[str, int], stored: int | None, counted: float | None
) -> Iterator[dict[str, Any]]:
    """What a model costs on any machine. lengths: see `lengths_of`. counted: its parameters, where its shape is not
    known."""
    known = _size(size_values)
    yield model | _cost("parameters", parameters(known).total if known else counted)
    if known:
        yield model | _cost(WORDS, 100 * parameters(known).word_share)
    for length, tokens in lengths.items():
        yield model | _cost(TOKENS, tokens, length)
        if known:
            yield model | _cost("flops", flops(known, tokens), length)
    if stored:
        yield model | _cost("disk", stored / MIB)


def _size(values: Any) -> ModelSize | None:
    try:
        return ModelSize(**values)
    except TypeError:  # an older or newer program wrote it
        return None


def timed(model: Mapping[str, Any], records: Sequence[Mapping[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """The readings of one model among records of a probe. model: what its rows have in common, run included."""
    for record in records:
        if record.get("name") != name:
            continue
        busy = bool(record.get("busy"))
        session = f"{model['run']} {record.get('session') or record.get('load_average')}"
        condition = {"place": hardware_of(record), "length": length_of(record), "busy": busy, "session": session}
        batch = record.get("batch")
        if batch in (1, 32):
            yield {**model, **_cost(f"latency-{batch}", record.get("median_ms")), **condition}
            yield {**model, **_cost(f"latency-{batch}-p90", record.get("p90_ms")), **condition}
        if batch == 32:
            yield {**model, **_cost("throughput", record.get("per_second")), **condition}
        if batch in (1, 32) and isinstance(record.get("energy_mj"), int | float):
            yield {**model, **_cost(f"energy-{batch}", record["energy_mj"]), **condition}
        if batch in (1, 32) and isinstance(bytes_held := record.get("memory"), int | float):
            counted = condition | {"busy": False, "session": ""}  # other work changes nothing in what is counted
            yield {**model, **_cost(f"memory-{batch}", bytes_held / MIB), **counted}


def energy_notes(store: Store, runs: Sequence[str]) -> dict[str, str]:
    """Hardware -> why no energy was counted on it, as these runs' timings say."""
    records = [
        record for probes in store.probes_of(runs, ("latency",)).values() for record in timings(probes, "latency")
    ]
    return {str(record.get("hardware")): str(note) for record in records if (note := record.get("energy_note"))}


def recorded_sizes(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Model -> bytes of its weight files, as the probe found them."""
    return {str(record.get("name")): size for record in records if isinstance(size := record.get("disk"), int)}


def _cost(axis: str, value: Any, length: str = "") -> dict[str, Any]:
    cost = float(value) if isinstance(value, int | float) else float("nan")
    return {"axis": axis, "place": "", "length": length, "cost": cost, "busy": False, "session": ""}


def _machine(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return *(record.get(part) for part in ("hardware", "threads", "batch")), length_of(record)


def hardware_of(record: Mapping[str, Any]) -> str:
    """Hardware, precision and threads of a timing: `EPYC (2 cores), bf16, 1 thread`."""
    threads = record.get("threads")
    return f"{record.get('hardware')}, {record.get('precision')}, {threads} thread{'' if threads == 1 else 's'}"


def weights_on_disk(run: str) -> dict[str, int]:
    """Model -> bytes of its weight files: the exported student's and the teachers', those that are on this disk."""
    from kdcore.engine import run_files

    try:
        return run_files.weights_on_disk(run_dir(run))
    except UserError:
        return {}


def timings(probes: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The records of a run's probe "latency" or "rivals" that hold a time."""
    probe = probes.get(name)
    listed = probe.get("records") if isinstance(probe, Mapping) else None
    return [record for record in listed or [] if isinstance(record, Mapping) and "median_ms" in record]
