"""What the commands share: errors in one line, tables, progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from kdcore import events as said
from kdcore.cli.log_lines import LogLines
from kdcore.errors import UserError
from kdcore.events import Event

if TYPE_CHECKING:
    import pandas as pd

BAD_INPUT = 2
CTRL_C = 130


class Commands(TyperGroup):
    """A group whose errors are one line, `error: field: problem; remedy`, and no traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **kwargs) or 0)
        except UserError as error:
            code = _fail(str(error), BAD_INPUT)
        except (KeyboardInterrupt, typer.Abort):
            code = _fail("interrupted", CTRL_C)
        except Exception as error:
            if not hasattr(error, "format_message"):  # not one of the parser's
                raise
            code = _usage(error)
        sys.exit(code)


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return BAD_INPUT
    command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "kdcore"
    words = " ".join(error.format_message().split()).rstrip(".")
    return _fail(f"command line: {words}; `{command} --help` lists what there is", BAD_INPUT)


def _fail(words: str, code: int) -> int:
    typer.echo("error: " + " ".join(words.split()), err=True)
    return code


def new_app(words: str) -> typer.Typer:
    return typer.Typer(
        cls=Commands, help=words, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )  # fmt: skip


def console() -> Console:
    """Where tables go. Piped into a file or another program, lines are not cut at 80 characters."""
    out = Console(highlight=False, soft_wrap=False, markup=False)
    return out if out.is_terminal else Console(highlight=False, width=240, markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table; what people typed is shown as it is, never read as markup or terminal codes."""
    drawn = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(plain(cell)) for cell in row))
    console().print(drawn)


def plain(value: Any) -> str:
    """A cell's words: empty for what is absent, control characters left out."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    return "".join(char if char.isprintable() else " " for char in str(value))


def percent(value: Any, sign: bool = False) -> str:
    """A score as GLUE shows it: times 100, one decimal. sign: of a difference, `+1.2`."""
    return "" if value is None or value != value else f"{100 * float(value):{'+' if sign else ''}.1f}"


def print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A DataFrame as JSON-able rows; absent values are null."""
    import json

    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", date_format="iso"))
    return rows


class Bars:
    """A progress bar that a run's events move. Turning points are printed above it."""

    def __init__(self) -> None:
        self._out = console()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=30),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeElapsedColumn(), TimeRemainingColumn(),
            console=self._out, transient=True,
        )  # fmt: skip
        self._steps: TaskID | None = None
        self._passes: dict[str, TaskID] = {}
        self._told: set[tuple[str, str, int]] = set()
        self._lines = None if self._out.is_terminal else LogLines(lambda words: self._out.print(plain(words)))

    def __enter__(self) -> Bars:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def restart(self, heading: str) -> None:
        """For the next run of a sweep."""
        for task in list(self._bar.task_ids):
            self._bar.remove_task(task)
        self._steps, self._passes, self._told = None, {}, set()
        if self._lines is not None:
            self._lines.restart()
        self._out.print(heading)

    def __call__(self, event: Event) -> None:
        if self._lines is not None:
            self._lines(event)
        match event:
            case said.RunStarted():
                for warning in event.facts.get("warnings", ()):
                    self._out.print(f"  [warn] {plain(warning)}")
            case said.StepDone():
                self._end_passes()
                words = f"{event.stage}: loss {event.loss:.4g}, {event.examples_per_second:.0f} rows/s"
                if self._steps is None:
                    self._steps = self._bar.add_task(words, total=event.steps)
                self._bar.update(self._steps, description=words, completed=event.step, total=event.steps)
            case said.Progress():
                task = self._passes.get(event.what)
                if task is None:
                    task = self._passes[event.what] = self._bar.add_task(plain(event.what), total=event.total)
                self._bar.update(task, completed=event.done, total=event.total)
            case said.Evaluated() if (event.which, event.split, event.step) not in self._told:
                self._told.add((event.which, event.split, event.step))
                scores = ", ".join(f"{name} {percent(value)}" for name, value in event.scores.items())
                self._out.print(f"  step {event.step}: {plain(event.which)} on {plain(event.split)}: {scores}")
            case said.StageStarted():
                self._end_passes()
                self._out.print(f"  stage {plain(event.stage)}: {event.steps} steps")

    def _end_passes(self) -> None:
        for task in self._passes.values():
            self._bar.remove_task(task)
        self._passes = {}
