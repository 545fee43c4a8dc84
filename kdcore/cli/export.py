"""Commands that change what is kept: stop, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kdcore.cli.console import plain
from kdcore.cli.publish import onnx_lines
from kdcore.errors import UserError


def register(app: typer.Typer) -> None:
    app.command()(stop)
    app.command()(export)
    app.command("import")(import_)


def stop(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    discard: Annotated[bool, typer.Option("--discard", help="Do not save the student.")] = False,
) -> None:
    """Ask a run to stop after its present step; the student is saved. A queued run is cancelled."""
    from kdcore.store import open_store

    store = open_store()
    store.mark_interrupted()
    store.request_stop(run, keep=not discard)
    typer.echo(f"{run}: {'cancelled' if store.get(run).state == 'cancelled' else 'asked to stop'}")


def export(
    run: Annotated[list[str], typer.Argument(help="The run's id; several for a bundle.")],
    to: Annotated[
        Path | None, typer.Option(help="A new folder for the model, a new file for a bundle, a tracker's folder.")
    ] = None,
    which: Annotated[Literal["best", "last"], typer.Option(help="Which student.")] = "best",
    bundle: Annotated[bool, typer.Option("--bundle", help="One file with runs, scores and students.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also model.onnx, checked against the student.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Also model-int8.onnx, 8-bit weights, scored.")] = False,
    dense: Annotated[bool, typer.Option("--dense", help="Multiply Kronecker factors out: a plain BERT.")] = False,
    to_tracker: Annotated[
        str | None, typer.Option(help="The runs' history instead: tensorboard, mlflow or wandb (offline).")
    ] = None,
) -> None:
    """Write a student as a Hugging Face folder with a model card, or runs as one file that `import` reads elsewhere."""
    from kdcore.store import open_store

    store = open_store()
    if to_tracker is not None:
        if bundle or dense or onnx or int8:
            raise UserError("--to-tracker", "a tracker takes a run's history, no student", "leave the other flags out")
        _track(store, run, to_tracker, to)
        return
    if to is None:
        raise UserError("--to", "it is not said where to", "name a new folder or, for a bundle, a new file")
    if bundle and dense:
        raise UserError("--dense", "a bundle holds students as they were trained", "leave --bundle or --dense out")
    if bundle and (onnx or int8):
        raise UserError("--onnx", "a bundle holds students as they were trained", "leave --bundle or --onnx out")
    if bundle:
        from kdcore.runs import bundle as bundles

        bundles.export_runs(store, run, to)
    elif len(run) > 1:
        raise UserError("run", "a model folder holds one run", "name one run, or add --bundle")
    else:
        from kdcore.export.folder import export_student

        check = export_student(store, run[0], to, which, onnx, int8, dense)
        for line in onnx_lines(check) if check else ():
            typer.echo(line)
        if dense:
            typer.echo(f"model.safetensors: {(to / 'model.safetensors').stat().st_size / 1e6:,.1f} MB")
    typer.echo(f"wrote {to}")


def _track(store: Any, runs: list[str], kind: str, to: Path | None) -> None:
    from kdcore.runs.trackers import export_history

    for run_id in runs:
        typer.echo(f"{run_id}: {export_history(store, run_id, kind, to):,} values to {kind}")


def import_(file: Annotated[Path, typer.Argument(help="A bundle that `export --bundle` wrote.")]) -> None:
    """Read runs from a bundle."""
    from kdcore.runs import bundle as bundles
    from kdcore.store import open_store

    for old, new in bundles.import_runs(open_store(), file).items():
        typer.echo(new if new == old else f"{new} (there: {plain(old)})")
