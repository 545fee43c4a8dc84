"""Commands about a published folder: predict, push."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdcore.errors import UserError

if TYPE_CHECKING:
    from kdcore.export.onnx_check import OnnxCheck


def register(app: typer.Typer) -> None:
    app.command()(predict)
    app.command()(push)


def predict(
    folder: Annotated[Path, typer.Argument(help="A folder that `export` wrote.")],
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL, JSON or Parquet with the texts.")],
    to: Annotated[Path, typer.Option(help="A new file: .csv, .tsv or .jsonl.")],
    text: Annotated[str | None, typer.Option(help="The column with the text; by default the one of the task.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="The column with the second text of a pair.")] = None,
    runtime: Annotated[
        Literal["auto", "onnx", "onnx-int8", "torch"],
        typer.Option(help="What computes; auto: the ONNX file where there is one."),
    ] = "auto",
) -> None:
    """Write the rows of a file with a student's answers: class and probability, or score."""
    from kdcore.export.answers import answer_file, open_reader

    if text_pair and not text:
        raise UserError("--text-pair", "the first text's column is not named", "name it with --text")
    reader = open_reader(folder, [name for name in (text, text_pair) if name], runtime)
    count = answer_file(reader, file, to)
    typer.echo(f"wrote {to} ({count:,} rows, by {'torch' if reader.runtime == 'torch' else 'ONNX Runtime'})")


def push(
    folder: Annotated[Path, typer.Argument(help="A folder that `export` wrote.")],
    to: Annotated[str, typer.Option(help="The repository on the Hugging Face hub: organisation/name.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; else it is private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: send it.")] = False,
) -> None:
    """Send a student to the Hugging Face hub, after asking."""
    from kdcore.export.push import check_complete, check_repository, push_folder
    from kdcore.formatting import size

    check_complete(folder)
    check_repository(to)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        typer.echo(f"  {path.relative_to(folder)} ({size(path.stat().st_size)})")
    whose = "a public" if public else "a private"
    if not yes:
        typer.confirm(f"Send these {len(files)} files to {to}, {whose} repository where it is new?", abort=True)
    typer.echo(f"sent to {push_folder(folder, to, private=not public)}")


def onnx_lines(check: OnnxCheck) -> list[str]:
    """What `export` prints of an ONNX file."""
    return [words for words in (check.sentence(), check.int8_sentence()) if words]
