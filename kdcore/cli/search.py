"""Commands that search: search, searches, tune."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kdcore.cli import settings
from kdcore.cli.console import console, percent, plain, print_json, records, table
from kdcore.cli.method_files import MethodFiles


def register(app: typer.Typer) -> None:
    for command in (search, searches, tune):
        app.command()(command)


def search(
    file: Annotated[Path | None, typer.Argument(help="YAML: run, bound, minutes; flags go over it.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the search; the same name goes on with it.")] = None,
    task: Annotated[str | None, typer.Option(help="Key of a task (`tasks` lists them).")] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="name=source:where[:layers]; again for an ensemble.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Of training, all trials together.")] = None,
    p50: Annotated[float | None, typer.Option(help="Half of the batches within so many ms.")] = None,
    p95: Annotated[float | None, typer.Option(help="95 % of the batches within so many ms.")] = None,
    parameters: Annotated[float | None, typer.Option(help="At most so many weights.")] = None,
    disk: Annotated[float | None, typer.Option(help="At most so many MiB on disk.")] = None,
    share: Annotated[float | None, typer.Option(help="Of the best teacher's score on select, such as 0.97.")] = None,
    least: Annotated[
        str | None, typer.Option(help="Make small where a share is asked: p50_ms, p95_ms, parameters, disk_mib.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="What answers: torch-fp32, torch-bf16, onnx-fp32, onnx-int8.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads that it answers with.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a batch.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens a row; default: the training rows' mean.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="A method to try; may be repeated.")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="A size to try: three-layers, narrow-64 or layers=3; may be repeated.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Of the recommended setting.")] = None,
    trials: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of all runs: train.epochs=3.")] = None,
    method_file: MethodFiles = None,
) -> None:
    """Search for the student to ship: under a bound on cost, within some minutes. Start it again to go on."""
    from kdcore.search.question import read_question
    from kdcore.search.search import search as run_search
    from kdcore.store import open_store

    bound = {"p50_ms": p50, "p95_ms": p95, "parameters": parameters, "disk_mib": disk, "share": share, "least": least,
             "runtime": runtime, "threads": threads, "batch": batch, "tokens": tokens}  # fmt: skip
    whole = {"name": name, "minutes": minutes, "methods": method, "seeds": seeds, "trials": trials,
             "sizes": [_size(text) for text in size] if size else None,
             "run": settings.common_settings({"task": task}, teacher or (), set_ or ()) or None,
             "bound": settings.explicit(bound) or None}  # fmt: skip
    question = read_question(file, settings.explicit(whole))
    store = open_store()
    with _going_on():
        found = run_search(store, question, say=lambda words: typer.echo(plain(words)))
    _print(store, found)


def searches(
    name: Annotated[str | None, typer.Argument(help="A search; none: all are listed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What earlier searches found."""
    from kdcore.search import record
    from kdcore.search.result import SearchResult
    from kdcore.store import open_store

    if name is None:
        for known in record.searches():
            typer.echo(known)
        return
    store, found = open_store(), record.read(name)
    if as_json:
        result = SearchResult(store, found)
        print_json({"words": result.sentences(), "trials": records(result.trials), "question": found.question})
        return
    _print(store, found)


def tune(
    file: Annotated[Path, typer.Argument(help="YAML: name, run, methods, trials, seeds, ranges.")],
    method_file: MethodFiles = None,
) -> None:
    """Tune each method with as many trials as the others, then train the best of each with every seed."""
    from kdcore.analysis.comparison import compare
    from kdcore.cli.inspect import print_comparisons
    from kdcore.search.tune import Tuning
    from kdcore.search.tune import tune as run_tuning
    from kdcore.settings_file import read_settings, validate
    from kdcore.store import open_store

    tuning, store = validate(Tuning, read_settings(file)), open_store()
    with _going_on():
        found = run_tuning(store, tuning, say=lambda words: typer.echo(plain(words)))
    for one in found:
        options = ", ".join(f"{name} {plain(value)}" for name, value in one.options.items()) or "no options"
        typer.echo(f"{one.method}: {one.trials} trials, {one.note or options}" if not one.options else
                   f"{one.method}: {one.trials} trials, best by select: {options}")  # fmt: skip
    frame = store.runs(["done"], include_archived=True)
    print_comparisons(store, compare(store, frame[frame.id.isin([run for one in found for run in one.seeds])]))


@contextmanager
def _going_on() -> Iterator[None]:
    """Ctrl-C and SIGTERM say how to go on; the run that is trained is released."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on", err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _size(text: str) -> str | dict[str, Any]:
    """The name of a size, or `layers=3,width=64`."""
    if "=" not in text:
        return text
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    return {key.strip(): int(value) if value.strip().isdecimal() else value.strip() for key, value in pairs.items()}


def _print(store: Any, found: Any) -> None:
    from kdcore.search.question import MEASURES
    from kdcore.search.result import SearchResult

    result = SearchResult(store, found)
    axis = MEASURES[found.asked.bound.axis]
    rows = (
        ("*" if row["chosen"] else "", "front" if row["front"] else "", row["method"], row["options"], row["size"],
         row["start"], row["state"], percent(row["select"]), f"{row['cost']:.4g}", plain(row["seconds"]), row["run"])
        for row in result.trials.to_dict("records")
    )  # fmt: skip
    columns = ("", "", "method", "options", "size", "start", "state", "select", axis, "seconds", "run")
    table(f"search {plain(found.asked.name)}", columns, rows)
    for sentence in result.sentences():
        console().print(plain(sentence))
