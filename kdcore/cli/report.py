"""The command that writes a comparison as one HTML file: `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdcore.errors import UserError


def register(app: typer.Typer) -> None:
    app.command()(report)


def report(
    run: Annotated[list[str], typer.Argument(help="Ids of the runs to compare.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, such as report.html.")],
    baseline: Annotated[
        str | None, typer.Option(help="The run that the others are set against; by default training alone.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a comparison as one HTML file of about 5 MB that opens without a network."""
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError("--output", f"{output} names no file in an existing folder", "name a file, such as report.html")
    if output.exists() and not force:  # said before the work, not after it
        raise _file_exists(output)
    from kdcore.formatting import size
    from kdcore.report import html
    from kdcore.store import open_store

    page = html(open_store(), run, baseline).encode()
    _write(page, output, force)
    typer.echo(f"wrote {output} ({size(len(page))})")


def _write(page: bytes, output: Path, force: bool) -> None:
    """Never over a file that came to be meanwhile, unless it may."""
    try:
        with output.open("wb" if force else "xb") as file:
            file.write(page)
    except FileExistsError:
        raise _file_exists(output) from None
    except OSError as error:
        words = error.strerror or type(error).__name__
        raise UserError("--output", f"{output} cannot be written ({words})", "name a file you may write") from error


def _file_exists(output: Path) -> UserError:
    return UserError("--output", f"{output} exists", "name another file, or add --force")
