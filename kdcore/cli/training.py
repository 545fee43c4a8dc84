"""Commands that train: distil, resume, sweep, demo."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdcore.cli import settings
from kdcore.cli.console import Bars, console, percent, plain, table
from kdcore.cli.inspect import print_comparisons, print_recipe
from kdcore.cli.method_files import MethodFiles
from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.formatting import data_text

if TYPE_CHECKING:
    from kdcore.store import Store

Also = Annotated[list[str] | None, typer.Option(help="Another task to learn beside it (MKD); again for several.")]
Teachers = Annotated[list[str] | None, typer.Option(help="name=source:where[:layers]; again for an ensemble.")]
Queue = Annotated[bool, typer.Option("--queue", help="Only queue; a dashboard on the same store trains it.")]


def register(app: typer.Typer) -> None:
    for command in (distil, resume, sweep, demo):
        app.command()(command)


def distil(
    task: Annotated[str | None, typer.Option(help="Key of a task (`tasks` lists them).")] = None,
    method: Annotated[str | None, typer.Option(help="Key of a method (`methods` lists them).")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A paper's own recipe (`presets` lists them); file and flags go over it.")
    ] = None,
    also: Also = None,
    teacher: Teachers = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the method, key=value; may be repeated.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="YAML or JSON with the run's settings; flags go over it.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for the lists.")] = None,
    layers: Annotated[int | None, typer.Option(help="Student layers.")] = None,
    width: Annotated[int | None, typer.Option(help="Student hidden size; default: the first teacher's.")] = None,
    heads: Annotated[int | None, typer.Option(help="Student attention heads.")] = None,
    init: Annotated[str | None, typer.Option(help="Initial weights: base, teacher, checkpoint, random.")] = None,
    init_layers: Annotated[str | None, typer.Option(help="first, last, skip, or a list such as 2,4,6.")] = None,
    form: Annotated[str | None, typer.Option(help="Student matrices: plain, kronecker-8, kronecker-21.")] = None,
    vocabulary: Annotated[int | None, typer.Option(help="Subword tokens of a vocabulary of the student's own.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Folder of weights for --init checkpoint.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Student steps, in place of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts a batch is split into, to save memory.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens kept of a row.")] = None,
    max_train_rows: Annotated[int | None, typer.Option(help="Train on a seeded subset.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of data order, new weights, dropout, teacher draws.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any other setting: train.warmup=0.06.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print settings and checks, train nothing.")] = False,
    queue: Queue = False,
    method_file: MethodFiles = None,
) -> None:
    """Train one student. Prints the settings, the checks, then the progress."""
    flags = {
        "task": task, "also": also or None, "method": method, "name": name, "layers": layers, "width": width,
        "heads": heads, "init": init, "init_layers": settings.layers_list(init_layers), "form": form,
        "vocabulary": vocabulary, "checkpoint": checkpoint, "epochs": epochs, "max_steps": max_steps, "device": device,
        "batch_size": batch_size, "accumulate": accumulate, "lr": lr, "max_length": max_length, "threads": threads,
        "max_train_rows": max_train_rows, "seed": seed, "precision": precision,
    }  # fmt: skip
    run = settings.build(file, flags, teacher or (), option or (), set_ or (), preset)
    typer.echo(settings.to_yaml(run))
    if preset is not None:
        print_recipe(preset)
    facts = _check(run, refuse=not dry_run)
    if dry_run:
        return
    from kdcore.store import open_store

    store = open_store()
    run_id = store.add_run(run, facts=facts)
    if queue:
        typer.echo(f"{run_id} is queued")
        return
    _end(store, run_id, _train(store, run_id))


def resume(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    queue: Queue = False,
    method_file: MethodFiles = None,
) -> None:
    """Go on with an interrupted, stopped, failed or cancelled run, from its checkpoint."""
    from kdcore.methods.catalog import check_source
    from kdcore.store import open_store

    store = open_store()
    store.mark_interrupted()
    row = store.get(run)
    if not row.broken:
        check_source(row.config)
    if row.state != "queued":
        store.requeue(run)
    if queue:
        typer.echo(f"{run} is queued")
        return
    _end(store, run, _train(store, run))


def sweep(
    file: Annotated[Path, typer.Argument(help="YAML: methods x students x inits x tasks x seeds.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Train at most so many runs now.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, train nothing.")] = False,
    queue: Queue = False,
    method_file: MethodFiles = None,
) -> None:
    """Train a grid of runs, skipping what is done, and print one table. Start it again to go on."""
    from kdcore.analysis.comparison import compare
    from kdcore.runs import sweep as grid
    from kdcore.store import open_store

    plan = grid.read_grid(file)
    cells = grid.expand(plan)
    store = open_store()
    states = grid.states(store, cells)
    todo = [cell for cell in cells if states[cell.hash] != "done"]
    typer.echo(f"{plan.name}: {len(cells)} runs, {len(cells) - len(todo)} done")
    todo = todo[:limit]
    if dry_run:
        rows = (
            (c.label, c.run.task, c.run.student.layers, c.run.student.init, data_text(c.run.data.model_dump()),
             c.run.train.seed, states[c.hash])
            for c in cells
        )  # fmt: skip
        table("", ("method", "task", "layers", "init", "data", "seed", "state"), rows)
        return
    if queue:
        typer.echo(f"{len(grid.queue(store, todo, plan.name))} runs are queued")
        return
    with Bars() as bars:
        ended = grid.run_here(
            store, todo, plan.name, on_event=bars,
            on_run=lambda i, cell, run_id: bars.restart(
                f"{i + 1}/{len(todo)} {run_id}: {cell.label}, seed {cell.run.train.seed}"
            ),
        )  # fmt: skip
    frame = store.runs(["done"], include_archived=True)
    chosen = frame[frame.id.isin(grid.run_ids(store, cells))]
    print_comparisons(store, compare(store, chosen, names=grid.names(cells)))
    _report_failures(store, grid.run_ids(store, todo), list(ended.values()))


def demo(
    task: Annotated[str, typer.Option(help="A pocket task.")] = "pocket-sentiment",
) -> None:
    """Train a pocket task's largest teacher, distil it in two ways beside the baseline, print a table."""
    from kdcore.analysis.comparison import compare
    from kdcore.runs.demo import demo_runs
    from kdcore.store import open_store

    started = time.monotonic()
    store = open_store()
    runs = demo_runs(task)
    ids = []
    for i, run in enumerate(runs, start=1):
        ids.append(run_id := store.add_run(run))
        console().print(f"{i}/{len(runs)} {run_id}")
        state = _train(store, run_id)
        if state != "done":
            _end(store, run_id, state)
    frame = store.runs(include_archived=True)
    print_teachers(store, ids[-1])
    print_comparisons(store, compare(store, frame[frame.id.isin(ids)]))
    typer.echo(f"synthetic data; {time.monotonic() - started:.0f} s; `kdcore runs` lists them")


def print_teachers(store: Store, run_id: str) -> None:
    """What the run's teachers score on the dev split."""
    scores = store.evaluations(run_id)
    theirs = scores[scores.which.str.startswith("teacher:") & (scores.split != "select")]
    rows = ((r.which, r.split, r.metric, percent(r.value)) for r in theirs.itertuples())
    if len(theirs):
        table("", ("teacher", "split", "metric", "value"), rows)


def _check(run: RunConfig, refuse: bool) -> dict[str, Any]:
    """Prints the pre-flight lines and the forecast, which it returns to be kept; a blocking line ends the command."""
    from kdcore.engine import preflight
    from kdcore.engine.plan import Plan

    report = preflight.check(Plan(run))
    for line in report.lines:
        typer.echo(f"[{line.level}] {line.field}: {line.text}" + (f"; {line.remedy}" if line.remedy else ""))
    if report.blocks and refuse:
        raise UserError(report.blocks[0].field, report.blocks[0].text, report.blocks[0].remedy)
    if report.blocks or report.forecast is None:
        return {}
    forecast = report.forecast
    typer.echo(
        f"about {forecast.seconds:.0f} s, {forecast.memory_bytes / 2**30:.1f} GiB memory, "
        f"{forecast.disk_bytes / 2**30:.2f} GiB disk, {forecast.steps} steps ({forecast.basis})"
    )
    return {"predicted": {"seconds": forecast.seconds, "basis": forecast.basis, "memory": forecast.memory_bytes}}


def _train(store: Store, run_id: str) -> str:
    """Trains a queued run here; where another process took it meanwhile, waits for that one. Returns the last state."""
    from kdcore.runs.worker import Worker
    from kdcore.store import UNFINISHED

    worker = Worker(store, "auto")
    if worker.take(run_id) is None:
        console().print("another process on this store trains it; waiting (Ctrl-C leaves it running)")
        while store.get(run_id).state in UNFINISHED:
            store.mark_interrupted()
            time.sleep(1.0)
        return store.get(run_id).state
    try:
        with Bars() as bars:
            return worker.drive(run_id, bars)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; go on with: kdcore resume {run_id}", err=True)
        raise


def _end(store: Store, run_id: str, state: str) -> None:
    """One line of result; exit code 1 where the run did not come to its end."""
    row = store.get(run_id)
    frame = store.runs(include_archived=True)
    score = frame[frame.id == run_id].iloc[0]
    if state in ("done", "stopped"):
        console().print(f"{run_id} {state}: {plain(score.metric)} {percent(score.score)}")
        return
    text = f"error: {row.reason or state}; {row.remedy or 'see `kdcore show`'}"
    typer.echo(" ".join(plain(text).split()), err=True)
    raise typer.Exit(1)


def _report_failures(store: Store, ids: Iterable[str], states: Collection[str]) -> None:
    """A line for each run that failed (exit code 1), and one for those that other processes hold."""
    from kdcore.store import ACTIVE

    for run_id in ids:
        row = store.get(run_id)
        if row.state in ("failed", "interrupted"):
            typer.echo(f"error: {run_id}: {plain(row.reason)}; {plain(row.remedy)}", err=True)
    elsewhere = [state for state in states if state in ACTIVE]
    if elsewhere:
        typer.echo(f"{len(elsewhere)} runs are trained by another process; start the sweep again for the whole table")
    if any(state not in ("done", "stopped", *ACTIVE) for state in states):
        raise typer.Exit(1)
