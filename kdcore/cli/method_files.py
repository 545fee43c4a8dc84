"""Methods from outside on the command line: `--method-file`, and `check-method`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdcore.cli.console import console, plain


def _take(files: list[Path] | None) -> list[Path]:
    """Takes the methods of these files in, before the command looks at anything else."""
    if files:
        from kdcore.methods.catalog import add_files

        add_files(files)
    return files or []


MethodFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--method-file", callback=_take, metavar="FILE", help="A Python file with a method of your own, which is run."
    ),
]
"""An option of every command that trains; naming a file is enough, nothing else is done with it."""


def register(app: typer.Typer) -> None:
    app.command("check-method")(check_method)


def check_method(
    file: Annotated[Path, typer.Argument(help="A Python file with a method of your own, which is run.")],
    option: Annotated[
        list[str] | None, typer.Option(help="Check it with this option, key=value; may be repeated.")
    ] = None,
) -> None:
    """Check a method of your own on tiny models: one line per check; exit code 1 where one fails."""
    from kdcore.cli.settings import read_options
    from kdcore.methods import find_method
    from kdcore.methods.catalog import add_files, outside_methods
    from kdcore.methods.contract_report import report

    add_files([file])
    key = next(key for key, method in outside_methods().methods.items() if method.path == file.resolve())
    method = find_method(key)
    out = console()
    out.print(f"{plain(method.title)} ({key}), {file.name}")
    states = []
    for result in report(key, read_options(method.Config, option or ())):
        words = f": {plain(result.words)}" if result.words else ""
        out.print(f"{result.state:9}{result.check}{words}", soft_wrap=True)
        states.append(result.state)
    failed = states.count("failed")
    out.print(f"{failed} of {len(states)} checks failed" if failed else f"{states.count('ok')} checks hold")
    if failed:
        raise typer.Exit(1)
