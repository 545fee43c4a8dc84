"""Rows of a file of separated cells: the separator and the quoting follow from the rows, not from the file's ending."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from kdcore.data.notes import Note, short
from kdcore.errors import UserError

SAMPLE_ROWS = 200
SAMPLE_CHARACTERS = 1_000_000
"""From so many rows of the beginning the separator is guessed."""

LARGEST_CELL = 2**31 - 1
"""The csv module's own limit, 128 KiB, is for the whole process."""

SEPARATORS = {".csv": ",;\t|", ".tsv": "\t,;|", ".txt": "\t,;|"}
"""Ending -> separators, the likeliest first."""

_QUOTED_CELL = re.compile(r'"[^"]*(?:""[^"]*)*"')
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)

Dialect = dict[str, Any]


@dataclass
class Rows:
    """header: column names. rows: as many cells each. notes: what a person should know of the reading.

    lines: of the file, counted from 1, in which each row begins.
    """

    header: list[str]
    rows: list[list[str]]
    notes: list[Note] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def parse(text: str, ending: str, wanted: Collection[str], name: str, about: str) -> Rows:
    """The cells of a text: separated by commas, semicolons, tabs or bars; quoted, or with quotation marks as text.

    Args:
        ending: of the file's name; its usual separator is tried first.
        wanted: columns that must be there; a separator that gives them is preferred.
        name: of the file. about: what a message names, e.g. "own.path".

    Raises:
        UserError: rows of other widths than the header, open quotation marks.
    """
    csv.field_size_limit(LARGEST_CELL)
    if "\n" not in text:
        text = text.replace("\r", "\n")
    announced = _SEPARATOR_LINE.match(text)  # Excel's own first line
    if not announced:
        return _parse(text, _separator(text, SEPARATORS[ending], wanted), name, about)
    table = _parse(text[announced.end() :], announced[1], name, about)
    return replace(table, lines=[line + 1 for line in table.lines])


def _parse(text: str, separator: str, name: str, about: str) -> Rows:
    try:
        if separator == "\t":
            return _tsv_rows(text, name, about)
        return _read(text, {"delimiter": separator, "strict": True}, name, about)
    except UserError as error:
        escaped = {"delimiter": separator, "escapechar": "\\", "doublequote": False, "strict": True}
        if '\\"' not in text:
            raise
        try:
            return _read(text, escaped, name, about)
        except UserError:
            raise error from None


def _separator(text: str, candidates: str, wanted: Collection[str]) -> str:
    """The candidate that gives the wanted columns and rows of one width; the first of equals."""
    sample = text[:SAMPLE_CHARACTERS]
    return max(candidates, key=lambda each: _fits(sample, each, wanted))  # max keeps the first of equals


def _fits(text: str, separator: str, wanted: Collection[str]) -> tuple[bool, bool]:
    dialects: list[Dialect] = [{"delimiter": separator}]
    if separator == "\t":
        dialects.append({"delimiter": separator, "quoting": csv.QUOTE_NONE})
    return max(_fit(text, dialect, wanted) for dialect in dialects)


def _fit(text: str, dialect: Dialect, wanted: Collection[str]) -> tuple[bool, bool]:
    try:
        rows = list(islice(csv.reader(io.StringIO(text, newline=""), **dialect), SAMPLE_ROWS))
    except csv.Error:
        return (False, False)
    if len(text) == SAMPLE_CHARACTERS and len(rows) < SAMPLE_ROWS:
        rows = rows[:-1]  # cut somewhere
    header = [cell.strip() for cell in rows[0]] if rows else []
    widths = {len(_without_empty_end(row, len(header))) for row in rows if any(row)}
    return (bool(wanted) and set(wanted) <= set(header), widths == {len(header)} and len(header) > 1)


def _tsv_rows(text: str, name: str, about: str) -> Rows:
    """Quotation marks are text, unless they are used throughout as pandas and spreadsheets use them."""
    as_text: Dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    if '"' not in text:
        return _read(text, as_text, name, about)
    quoted: Dialect = {"delimiter": "\t", "strict": True}
    lines = [row for row in csv.reader(io.StringIO(text, newline=""), **as_text) if row]
    marked = [cell for row in lines for cell in row if '"' in cell]
    doubled = [cell for cell in marked if _QUOTED_CELL.fullmatch(cell) and '""' in cell[1:-1]]
    if all(_QUOTED_CELL.fullmatch(cell) for cell in marked):
        if doubled or _column_in_marks(lines):
            return _read(text, quoted, name, about)
    elif len({len(row) for row in lines}) > 1 and _is_quoted(text):
        try:
            return _read(text, quoted, name, about)
        except UserError:  # then the marks are text, and the widths are wrong for another reason
            pass
    table = _read(text, as_text, name, about)
    if doubled:
        table.notes.append(
            Note(
                "warn",
                about,
                f"{len(doubled):,} cells of {name} are in quotation marks with doubled marks inside, such as "
                f"{short(doubled[0])}, but other cells are not written so: all marks are read as text",
                "write the file with one way of quoting, or as CSV, if they should not be in the texts",
            )
        )
    return table


def _column_in_marks(lines: list[list[str]]) -> bool:
    """Whether every cell of some column below the header is in quotation marks."""
    width = len(lines[0])
    rows = [row for row in lines[1:] if len(row) == width]
    return bool(rows) and any(all(row[i].startswith('"') for row in rows) for i in range(width))


def _is_quoted(text: str) -> bool:
    """Whether each cell either is in quotation marks, with marks inside doubled, or holds none."""
    cell = re.compile(r'(?:"[^"]*(?:""[^"]*)*"|[^"\t\r\n]*)(\t|\r\n|\n|\r|\Z)')
    place = 0
    while place < len(text):
        match = cell.match(text, place)
        if match is None:
            return False
        place = match.end()
    return True


def _read(text: str, dialect: Dialect, name: str, about: str) -> Rows:
    lines = csv.reader(io.StringIO(text, newline=""), **dialect)
    try:
        header = [cell.strip() for cell in next(lines, [])]
        table, before = Rows(header, []), lines.line_num
        for cells in lines:
            first, before = before + 1, lines.line_num
            if not cells or (len(header) > 1 and len(cells) == 1 and not cells[0].strip()):
                continue
            table.rows.append(_fit_cells(cells, header, lines.line_num, name, about))
            table.lines.append(first)
    except csv.Error as error:
        raise UserError(
            about, f"line {lines.line_num} of {name} cannot be read ({error})", "check its quotation marks"
        ) from error
    table.notes.extend(_unnamed_column_notes(table, name, about))
    return table


def _fit_cells(cells: list[str], header: list[str], line: int, name: str, about: str) -> list[str]:
    """As many cells as the header has: empty cells at the end go, cells of unnamed columns may be absent."""
    cells = _without_empty_end(cells, len(header))
    if len(cells) < len(header) and not any(header[len(cells) :]):
        cells = cells + [""] * (len(header) - len(cells))
    if len(cells) != len(header):
        raise UserError(
            about,
            f"line {line} of {name} has {len(cells)} cells, the header has {len(header)}",
            "put text that holds separators or line breaks in quotation marks, and close each of them; separate cells "
            "with one comma, tab, semicolon or bar",
        )
    return cells


def _without_empty_end(cells: list[str], width: int) -> list[str]:
    while len(cells) > width and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def _unnamed_column_notes(table: Rows, name: str, about: str) -> Iterator[Note]:
    """A warning where columns without a name hold text: it is not read. A column of row numbers is usual."""
    unnamed = [i for i, column in enumerate(table.header) if not column]
    held = [row for row in table.rows if any(row[i].strip() and not row[i].strip().isdecimal() for i in unnamed)]
    if held:
        yield Note(
            "warn",
            about,
            f"{len(held):,} rows of {name} have text in columns without a name, which is not read",
            "put text that holds separators in quotation marks, or name the columns",
        )
