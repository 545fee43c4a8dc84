"""Reading a person's CSV, TSV, JSON or Parquet file into columns, with messages that say where it is wrong."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdcore.data import separated
from kdcore.data.notes import Note
from kdcore.errors import UserError

MAX_BYTES = 2 * 1024**3
"""A larger file, packed or unpacked, would not fit beside a model in the memory of most machines."""

PARQUET_ROWS = 4096
"""Rows unpacked at a time, so that the limit is seen before memory runs out."""

CELL_BYTES = 50
"""What the shortest text takes in a list of Python's."""

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Table:
    """columns: name -> cells, all of one length. notes: what a person should know of the reading.

    lines: of the file, counted from 1, in which each row begins; empty where the file has no lines.
    """

    columns: Columns
    notes: tuple[Note, ...] = ()
    lines: tuple[int, ...] = ()


def read_table(path: Path, field: str, wanted: Collection[str] = ()) -> Table:
    """The columns of a file; an empty or absent cell is None or "". Text is UTF-8.

    CSV, TSV and TXT may be separated by commas, semicolons, tabs or bars (`separated.parse`); JSON is a list of
    objects, objects line by line, or an object of columns. Columns without a name are left out.

    Args:
        field: what the message calls the file, e.g. "own.path".
        wanted: the columns that will be read. Of a Parquet file that has them all, the others are not unpacked.

    Raises:
        UserError: no such file, unknown format, wrong encoding, broken rows, duplicate columns, no rows.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(READERS)
        raise UserError(field, f"{path.name!r} is of no known format", f"give a file that ends in {known}")
    _check_file(path, field)
    try:
        table = reader(path, field, wanted)
    except OSError as error:
        raise UserError(field, f"{path} cannot be read ({error.strerror})", "check the path and its rights") from error
    if not any(table.columns.values()):
        raise UserError(field, f"{path.name} has a header but no rows", "add rows")
    return table


def _check_file(path: Path, field: str) -> None:
    """Raises UserError where the path is not a regular file of a size that can be read."""
    try:
        about = path.stat()
    except FileNotFoundError:
        raise UserError(field, f"there is no file {path}", "check the path") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(field, f"{path} cannot be read ({why})", "check the path and its rights") from error
    if not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "not a regular file"
        raise UserError(field, f"{path} is {kind}", "give the path of a file with rows")
    if about.st_size > MAX_BYTES:
        raise UserError(field, f"{path.name} has {about.st_size / 1024**3:.1f} GiB", "give a part of at most 2 GiB")
    if not about.st_size:
        raise UserError(field, f"{path.name} is empty", "give a header and rows")
    with path.open("rb") as file:
        start = file.read(100).lstrip().lower()
    if start.startswith(b"version https://git-lfs.github.com"):
        raise UserError(
            field, f"{path.name} is a Git LFS pointer, not the file itself", "fetch the file with `git lfs pull`"
        )
    if start.startswith((b"<!doctype html", b"<html")):
        raise UserError(field, f"{path.name} is a web page, not a table", "download the file itself (its raw form)")


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


def _separated_table(path: Path, field: str, wanted: Collection[str]) -> Table:
    table = separated.parse(_text(path, field), path.suffix.lower(), wanted, path.name, field)
    _check_names(table.header, path, field)
    places = [(i, name) for i, name in enumerate(table.header) if name]
    return Table({name: [row[i] for row in table.rows] for i, name in places}, tuple(table.notes), tuple(table.lines))


def _json_lines(path: Path, field: str, wanted: Collection[str]) -> Table:
    text = _text(path, field)
    if text.lstrip().startswith("["):
        return _json(path, field, wanted)
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise UserError(
                field, f"line {number} of {path.name} is not JSON ({error})", "write one object per line"
            ) from None
        if not isinstance(row, dict):
            raise UserError(
                field, f"line {number} of {path.name} is not a JSON object", 'write {"column": value, ...} on each line'
            )
        rows.append(row)
        lines.append(number)
    return replace(_from_objects(rows), lines=tuple(lines))


def _json(path: Path, field: str, wanted: Collection[str]) -> Table:
    """One JSON value: a list of objects, an object of columns, or an object that holds one list of objects."""
    text = _text(path, field)
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            return _json_lines(path, field, wanted)
        raise UserError(
            field, f"{path.name} is not JSON ({error})", "write a list of objects, or one object per line"
        ) from None
    rows = _objects_in(value)
    if rows is not None:
        return _from_objects(rows)
    if isinstance(value, dict) and (columns := _columns_in(value)):
        return Table(columns)
    raise UserError(
        field, f"{path.name} is not a table in JSON", 'write a list of objects: [{"column": value, ...}, ...]'
    )


def _objects_in(value: Any) -> list[dict[str, Any]] | None:
    """The rows of a list of objects, or of an object that holds one such list."""
    if isinstance(value, list):
        return value if all(isinstance(row, dict) for row in value) else None
    if not isinstance(value, dict):
        return None
    lists = [each for each in value.values() if isinstance(each, list) and each and isinstance(each[0], dict)]
    if len(lists) == 1:
        return _objects_in(lists[0])
    scalars = not any(isinstance(each, list | dict) for each in value.values())
    return [value] if value and scalars else None


def _columns_in(value: dict[str, Any]) -> Columns | None:
    """Columns that are lists of one length, or objects with one set of keys, as pandas writes a table."""
    cells = list(value.values())
    if all(isinstance(each, list) for each in cells) and len({len(each) for each in cells}) == 1:
        return value
    if all(isinstance(each, dict) for each in cells) and len({tuple(each) for each in cells}) == 1:
        return {name: list(each.values()) for name, each in value.items()}
    return None


def _from_objects(rows: list[dict[str, Any]]) -> Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return Table({name: [row.get(name) for row in rows] for name in names})


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:40]!r} stands twice in one object")
    return row


def _parquet(path: Path, field: str, wanted: Collection[str]) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_names(names, path, field)
            if not set(wanted) <= set(names):
                return Table({name: [None] for name in names})  # enough to say which columns there are
            chosen = [name for name in names if name in wanted or not wanted]
            _check_unpacked(file.metadata, chosen, path, field)
            columns: Columns = {name: [] for name in chosen}
            size = 0
            for batch in file.iter_batches(PARQUET_ROWS, columns=chosen):
                size += batch.nbytes
                if size > MAX_BYTES:
                    raise _too_large(path, field, size)
                for name in chosen:
                    columns[name].extend(batch.column(name).to_pylist())
    except (pa.ArrowException, ValueError) as error:
        raise UserError(field, f"{path.name} is not a readable Parquet file ({error})", "write it again") from error
    return Table(columns)


def _check_unpacked(metadata: Any, chosen: list[str], path: Path, field: str) -> None:
    """Raises UserError where the columns, unpacked, are larger than a file may be: a few kB can hold gigabytes."""
    size = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for i in range(row_group.num_columns):
            column = row_group.column(i)
            if column.path_in_schema.split(".")[0] in chosen:
                size += column.total_uncompressed_size
    size = max(size, metadata.num_rows * len(chosen) * CELL_BYTES)  # a word that repeats is stored once
    if size > MAX_BYTES:
        raise _too_large(path, field, size)


def _too_large(path: Path, field: str, size: int) -> UserError:
    return UserError(field, f"{path.name} has {size / 1024**3:.1f} GiB unpacked", "give a part of at most 2 GiB")


def _check_names(names: list[str], path: Path, field: str) -> None:
    twins = [name for name, times in Counter(names).items() if times > 1 and name]
    if twins:
        raise UserError(
            field,
            f"{path.name} has more than one column {twins[0]!r}",
            "give each column its own name, in a header line if the file has none",
        )


READERS: dict[str, Callable[[Path, str, Collection[str]], Table]] = {
    ".csv": _separated_table,
    ".tsv": _separated_table,
    ".txt": _separated_table,
    ".jsonl": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
}
