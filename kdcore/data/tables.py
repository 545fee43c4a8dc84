"""Reading a person's CSV, TSV, JSONL or Parquet file into columns, with messages that say where it is wrong."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdcore.errors import UserError

MAX_BYTES = 2 * 1024**3
"""A larger file would not fit beside a model in the memory of most machines."""

Columns = dict[str, list[Any]]


def read_table(path: Path, field: str) -> Columns:
    """The columns of a file; an empty or absent cell is None or "".

    CSV may be separated by commas or semicolons; in TSV quotation marks are text. Text is UTF-8.

    Args:
        field: what the message calls the file, e.g. "own.path".

    Raises:
        UserError: no such file, unknown format, wrong encoding, broken rows, duplicate columns, no rows.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(READERS)
        raise UserError(field, f"{path.name!r} is of no known format", f"give a file that ends in {known}")
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise UserError(field, f"{path} cannot be read ({error.strerror})", "check the path and its rights") from error
    if size is None:
        raise UserError(field, f"there is no file {path}", "check the path")
    if size > MAX_BYTES:
        raise UserError(field, f"{path.name} has {size / 1024**3:.1f} GiB", "give a part of at most 2 GiB")
    if not size:
        raise UserError(field, f"{path.name} is empty", "give a header and rows")
    try:
        columns = reader(path, field)
    except OSError as error:
        raise UserError(field, f"{path} cannot be read ({error.strerror})", "check the path and its rights") from error
    if not any(columns.values()):
        raise UserError(field, f"{path.name} has a header but no rows", "add rows")
    return columns


def _text(path: Path, field: str) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            field,
            f"{path.name} is not UTF-8: byte {error.start} (0x{data[error.start]:02x}, line {line}) fits no character",
            "save it with the encoding UTF-8",
        ) from None


def _csv(path: Path, field: str) -> Columns:
    text = _text(path, field)
    header = text.split("\n", 1)[0]
    return _separated(text, path, field, delimiter=";" if header.count(";") > header.count(",") else ",", strict=True)


def _tsv(path: Path, field: str) -> Columns:
    return _separated(_text(path, field), path, field, delimiter="\t", quoting=csv.QUOTE_NONE)


def _separated(text: str, path: Path, field: str, **dialect: Any) -> Columns:
    csv.field_size_limit(MAX_BYTES - 1)  # the module's own limit, 128 KiB, is for the whole process
    lines = csv.reader(io.StringIO(text, newline=""), **dialect)
    try:
        header = [name.strip() for name in next(lines, [])]
        _no_twins(header, path, field)
        columns: Columns = {name: [] for name in header}
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(
                    field,
                    f"line {lines.line_num} of {path.name} has {len(cells)} cells, the header has {len(header)}",
                    "put text that holds separators or line breaks in quotation marks, and close each of them",
                )
            for name, cell in zip(header, cells, strict=True):
                columns[name].append(cell)
    except csv.Error as error:
        raise UserError(
            field, f"line {lines.line_num} of {path.name} cannot be read ({error})", "check its quotation marks"
        ) from error
    return columns


def _jsonl(path: Path, field: str) -> Columns:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_text(path, field).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                field, f"line {number} of {path.name} is not JSON ({error})", "write one object a line"
            ) from None
        if not isinstance(row, dict):
            raise UserError(field, f"line {number} of {path.name} is not a JSON object", 'write {"column": value, ...}')
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(path: Path, field: str) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        _no_twins(table.column_names, path, field)
        return {name: table[name].to_pylist() for name in table.column_names}
    except (pa.ArrowException, ValueError) as error:
        raise UserError(field, f"{path.name} cannot be read as Parquet ({error})", "write it again") from error


def _no_twins(names: list[str], path: Path, field: str) -> None:
    twins = [name for name, times in Counter(names).items() if times > 1]
    if twins:
        raise UserError(field, f"{path.name} has more than one column {twins[0]!r}", "give each column its own name")


READERS: dict[str, Callable[[Path, str], Columns]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
