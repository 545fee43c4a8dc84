"""A person's own table as a task: columns chosen by name, every cell checked before anything trains on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.config import OwnData
from kdcore.data.labels import (
    Classes,
    check_labels,
    class_numbers,
    find_classes,
    is_missing,
    label_key,
    number_of,
    score_notes,
    score_values,
)
from kdcore.data.notes import Note, row_list, short
from kdcore.data.splits import NO_LABEL, UNLABELLED, Split, TaskData, fingerprint, make_split, spread, with_domains
from kdcore.data.tables import Columns, read_table
from kdcore.errors import UserError
from kdcore.paths import user_path
from kdcore.tasks import Task

MIN_ROWS = 20
MAX_CHARACTERS = 100_000
"""Of one text: models read 512 tokens, and a longer cell is nearly always a quotation mark that was never closed."""

DEV_SHARE = 0.1

MOST_DOMAINS = 100

SENTENCE = 6
"""Words of a column's name that is rather a text."""

Texts = tuple[list[str], ...]

_SURROGATE = re.compile("[\ud800-\udfff]")


def load(own: OwnData) -> TaskData:
    """Read the table, and the dev table or else keep a seeded tenth of the rows as dev split.

    Raises:
        UserError: naming the field (`own.path`, `own.label`, ...), the first row that is wrong and the remedy.
    """
    chosen = [own.text, own.text_pair, own.label, own.domain]
    if len({name for name in chosen if name}) < len([name for name in chosen if name]):
        raise UserError("own.label", "a column is chosen twice", "choose different columns for texts, label and domain")
    path = user_path(own.path, "own.path")
    texts, cells, notes, domains = _columns(own, path, "own.path", own.domain)
    if len(cells) < MIN_ROWS:
        raise UserError("own.path", f"{path.name} has {len(cells)} rows", f"give at least {MIN_ROWS}")
    classes = find_classes(cells, path.name) if own.kind == "classification" else None
    names = classes.names if classes else ()
    labels = _labels(cells, classes, "own.label")
    notes += classes.notes if classes else tuple(score_notes(labels.astype(np.float32)))
    notes += tuple(_header_notes(own, path, texts, cells))
    if own.validation_path:
        dev_path = user_path(own.validation_path, "own.validation_path")
        dev_texts, dev_cells, dev_notes, _ = _columns(own, dev_path, "own.validation_path")
        dev_labels = _labels(dev_cells, classes, "own.validation_path")
        notes += (*dev_notes, *_few_dev_rows(dev_path, len(dev_cells)))
        source = f"{path.name}, dev rows from {dev_path.name}"
    else:
        order = spread(labels, stratified=bool(names))
        held = max(1, round(len(order) * DEV_SHARE))
        train, dev = np.sort(order[held:]), np.sort(order[:held])
        dev_texts, dev_labels = _take(texts, dev), labels[dev]
        texts, labels, domains = _take(texts, train), labels[train], [domains[i] for i in train if domains]
        source = f"{path.name}, a seeded tenth as dev rows"
    task = _task(own, path, names, len(labels))
    splits = {
        "train": make_split(task, "train", texts, labels),
        "validation": make_split(task, "validation", dev_texts, dev_labels),
    }
    data = TaskData(task, splits, fingerprint(task, splits), source, notes=notes)
    more, more_notes, more_domains = _unlabelled_split(own, task)
    if more is not None:
        digest = fingerprint(task, {**splits, UNLABELLED: more})
        source = f"{source}, {len(more):,} texts without a label"
        data = replace(data, fingerprint=digest, source=source, notes=(*notes, *more_notes), unlabelled=more)
    return _of_domains(own, data, domains, more_domains) if own.domain else data


def _of_domains(own: OwnData, data: TaskData, domains: list[str], of_unlabelled: list[str]) -> TaskData:
    """The data with the domain of each training row. The fingerprint stays: runs with and without it see equal rows."""
    names = sorted({*domains, *of_unlabelled})
    if len(names) > MOST_DOMAINS:
        raise UserError(
            "own.domain", f"column {own.domain!r} has {len(names):,} different values, more than {MOST_DOMAINS}",
            "choose a column that says which of a few domains a row is of",
        )  # fmt: skip
    numbers = {name: number for number, name in enumerate(names)}
    data = with_domains(data, names, [numbers[name] for name in domains])
    if data.unlabelled is None:
        return data
    sources = np.array([numbers[name] for name in of_unlabelled], dtype=np.int64)
    return replace(data, unlabelled=replace(data.unlabelled, sources=sources))


def _unlabelled_split(own: OwnData, task: Task) -> tuple[Split | None, tuple[Note, ...], list[str]]:
    """The texts that have no label, notes, and domains where they are told; None where no file is named."""
    if not own.unlabelled_path:
        return None, (), []
    field, path = "own.unlabelled_path", user_path(own.unlabelled_path, "own.unlabelled_path")
    wanted = [*task.columns, *([own.domain] if own.domain else [])]
    table = read_table(path, field, wanted)
    for name in wanted:
        if name not in table.columns:
            there = ", ".join(short(column) for column in list(table.columns)[:20])
            raise UserError(field, f"{path.name} has no column {name!r}", f"name a column so; there are {there}")
    notes = list(table.notes)
    texts = tuple(_texts(table.columns, name, field, path, notes) for name in task.columns)
    labels = np.full(len(texts[0]), NO_LABEL[task.kind])
    return make_split(task, UNLABELLED, texts, labels), tuple(notes), _domains(table.columns, own.domain, field, path)


def _task(own: OwnData, path: Path, names: tuple[str, ...], rows: int) -> Task:
    columns = (own.text, own.text_pair) if own.text_pair else (own.text,)
    metrics = ("accuracy", "f1") if names else ("pearson", "spearman")
    return Task(
        "own", path.name, "own", columns, own.kind, names, metrics, train_rows=rows, about=f"Own data: {path.name}"
    )


def _domains(table: Columns, name: str | None, field: str, path: Path) -> list[str]:
    """The domain of each row; empty where no column is named."""
    if name is None:
        return []
    _none_empty(table[name], name, field, path)
    return [_valid_text(str(cell).strip()) for cell in table[name]]


def _columns(
    own: OwnData, path: Path, field: str, domain: str | None = None
) -> tuple[Texts, list[Any], tuple[Note, ...], list[str]]:
    """The texts and the label cells of a file, none of them empty, notes, and domains.

    domain: the column that names them; None: nothing does.
    """
    wanted = {"own.text": own.text, "own.text_pair": own.text_pair, "own.label": own.label, "own.domain": domain}
    table = read_table(path, field, [name for name in wanted.values() if name is not None])
    for key, name in wanted.items():
        if name is not None and name not in table.columns:
            there = ", ".join(short(column) for column in list(table.columns)[:20])
            header = "; if they are a row, add a line with column names" if _headerless(table.columns) else ""
            raise UserError(key, f"{path.name} has no column {name!r}", f"choose one of {there}{header}")
    notes = list(table.notes)
    texts = tuple(
        _texts(table.columns, name, key, path, notes) for key, name in list(wanted.items())[:2] if name is not None
    )
    cells = [_valid_text(cell) if isinstance(cell, str) else cell for cell in table.columns[own.label]]
    _none_empty(cells, own.label, "own.label", path)
    check_labels(cells, "own.label", path.name)
    return texts, cells, tuple(notes), _domains(table.columns, domain, "own.domain", path)


def _texts(table: Columns, name: str, field: str, path: Path, notes: list[Note]) -> list[str]:
    cells = table[name]
    _none_empty(cells, name, field, path)
    for row, cell in enumerate(cells, start=1):
        if not isinstance(cell, str):
            raise UserError(
                field,
                f"row {row} of column {name!r} in {path.name} is not text but {short(cell)}",
                "choose a column of text",
            )
        if len(cell) > MAX_CHARACTERS:
            raise UserError(
                field,
                f"row {row} of column {name!r} in {path.name} has {len(cell):,} characters",
                f"shorten it to {MAX_CHARACTERS:,}, or close a quotation mark that swallows the rows after it",
            )
    halves = [row for row, cell in enumerate(cells, start=1) if _SURROGATE.search(cell)]
    if halves:
        notes.append(
            Note(
                "warn",
                field,
                f"{row_list(halves)} of column {name!r} in {path.name} held half a character (a lone surrogate, such "
                f"as a cut emoji), which is replaced",
                "write the texts again if they should hold the whole character",
            )
        )
        return [_valid_text(cell) for cell in cells]
    return cells


def _valid_text(cell: str) -> str:
    """Half characters, which no tokenizer or file can hold, as U+FFFD."""
    return _SURROGATE.sub("\ufffd", cell)


def _none_empty(cells: Sequence[Any], name: str, field: str, path: Path) -> None:
    empty = [row for row, cell in enumerate(cells, start=1) if is_missing(cell)]
    if empty:
        then = f", then in {row_list(empty[1:])}" if empty[1:] else ""
        raise UserError(
            field,
            f"column {name!r} of {path.name} is empty in {len(empty)} of {len(cells)} rows, "
            f"first in row {empty[0]}{then}",
            "fill those cells or delete the rows",
        )


def _headerless(columns: Columns) -> bool:
    """Whether the names of the columns look like a row: one of them stands among the cells of its own column."""
    return any(name in cells for name, cells in columns.items())


def _header_notes(own: OwnData, path: Path, texts: Texts, cells: list[Any]) -> Iterator[Note]:
    """Warnings where the first line was a row and no header, or the header stands again among the rows."""
    if own.kind == "regression":
        label = number_of(own.label) is not None
    else:
        label = label_key(own.label) in set(map(label_key, cells))
    if not label and len(own.text.split()) < SENTENCE:
        return
    again = [row for row, (text, cell) in enumerate(zip(texts[0], cells, strict=True), start=1)
             if text.strip() == own.text and str(cell).strip() == own.label]  # fmt: skip
    if again:
        yield Note("warn", "own.path", f"{row_list(again)} of {path.name} repeats the header", "delete the row")
        return
    why = f"{short(own.label)} is also a label" if label else "the first is a sentence"
    yield Note(
        "warn",
        "own.path",
        f"the first line of {path.name}, {short(own.text)} and {short(own.label)}, is read as column names, but {why}, "
        f"so it seems to be a row",
        "add a first line with column names, such as text and label, and choose those",
    )


def _few_dev_rows(path: Path, rows: int) -> Iterator[Note]:
    if rows < MIN_ROWS:
        yield Note(
            "warn",
            "own.validation_path",
            f"{path.name} has {rows} row{'s' if rows > 1 else ''}, so one row decides {100 / rows:.0f} % of the score",
            "give more dev rows, or leave it empty to keep a tenth of own.path",
        )


def _labels(cells: list[Any], classes: Classes | None, field: str) -> NDArray[np.generic]:
    """Class numbers where there are classes, else scores."""
    if classes:
        return class_numbers(cells, classes, field)
    labels = score_values(cells, field)
    if np.ptp(labels) == 0:
        raise UserError(field, f"every score is {labels[0]:g}", "give rows of different scores")
    return labels


def _take(texts: Texts, rows: NDArray[np.int64]) -> Texts:
    return tuple([column[i] for i in rows] for column in texts)
