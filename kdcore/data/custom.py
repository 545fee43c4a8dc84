"""A person's own table as a task: columns chosen by name, every cell checked before anything trains on it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.config import OwnData
from kdcore.data.splits import TaskData, fingerprint, make_split, spread
from kdcore.data.tables import Columns, read_table
from kdcore.errors import UserError
from kdcore.paths import user_path
from kdcore.tasks import Task

MIN_ROWS = 20
MAX_CLASSES = 50
MAX_CHARACTERS = 100_000
"""Of one text: models read 512 tokens, and a longer cell is nearly always a quotation mark that was never closed."""

DEV_SHARE = 0.1

Texts = tuple[list[str], ...]


def load(own: OwnData) -> TaskData:
    """Read the table, and the dev table or else keep a seeded tenth of the rows as dev split.

    Raises:
        UserError: naming the field (`own.path`, `own.label`, ...), the first row that is wrong and the remedy.
    """
    chosen = [own.text, own.text_pair, own.label]
    if len({name for name in chosen if name}) < len([name for name in chosen if name]):
        raise UserError("own.label", "a column is chosen twice", "choose different columns for texts and label")
    path = user_path(own.path, "own.path")
    texts, cells = _columns(own, path, "own.path")
    if len(cells) < MIN_ROWS:
        raise UserError("own.path", f"{path.name} has {len(cells)} rows", f"give at least {MIN_ROWS}")
    names = _class_names(cells) if own.kind == "classification" else ()
    labels = _labels(cells, names, "own.label")
    if own.validation_path:
        dev_path = Path(own.validation_path).expanduser()
        dev_texts, dev_cells = _columns(own, dev_path, "own.validation_path")
        dev_labels = _labels(dev_cells, names, "own.validation_path")
        source = f"{path.name}, dev rows from {dev_path.name}"
    else:
        order = spread(labels, stratified=bool(names))
        held = max(1, round(len(order) * DEV_SHARE))
        train, dev = np.sort(order[held:]), np.sort(order[:held])
        dev_texts, dev_labels = _take(texts, dev), labels[dev]
        texts, labels = _take(texts, train), labels[train]
        source = f"{path.name}, a seeded tenth as dev rows"
    task = _task(own, path, names, len(labels))
    splits = {
        "train": make_split(task, "train", texts, labels),
        "validation": make_split(task, "validation", dev_texts, dev_labels),
    }
    return TaskData(task, splits, fingerprint(task, splits), source)


def _task(own: OwnData, path: Path, names: tuple[str, ...], rows: int) -> Task:
    columns = (own.text, own.text_pair) if own.text_pair else (own.text,)
    metrics = ("accuracy", "f1") if names else ("pearson", "spearman")
    return Task(
        "own", path.name, "own", columns, own.kind, names, metrics, train_rows=rows, about=f"Own data: {path.name}"
    )


def _columns(own: OwnData, path: Path, field: str) -> tuple[Texts, list[Any]]:
    """The texts and the label cells of a file, none of them empty."""
    table = read_table(path, field)
    wanted = {"own.text": own.text, "own.text_pair": own.text_pair, "own.label": own.label}
    for key, name in wanted.items():
        if name is not None and name not in table:
            there = ", ".join(repr(column) for column in list(table)[:20])
            raise UserError(key, f"{path.name} has no column {name!r}", f"choose one of {there}")
    texts = tuple(_texts(table, name, key, path) for key, name in list(wanted.items())[:2] if name is not None)
    cells = table[own.label]
    _none_empty(cells, own.label, "own.label", path)
    return texts, cells


def _texts(table: Columns, name: str, field: str, path: Path) -> list[str]:
    cells = table[name]
    _none_empty(cells, name, field, path)
    for row, cell in enumerate(cells, start=1):
        if not isinstance(cell, str):
            raise UserError(
                field,
                f"row {row} of column {name!r} in {path.name} is no text but {_short(cell)}",
                "choose a column of text",
            )
        if len(cell) > MAX_CHARACTERS:
            raise UserError(
                field,
                f"row {row} of column {name!r} in {path.name} has {len(cell):,} characters",
                f"shorten it to {MAX_CHARACTERS:,}, or close a quotation mark that swallows the rows after it",
            )
    return cells


def _none_empty(cells: list[Any], name: str, field: str, path: Path) -> None:
    empty = [row for row, cell in enumerate(cells, start=1) if cell is None or (isinstance(cell, str) and _blank(cell))]
    if empty:
        raise UserError(
            field,
            f"column {name!r} of {path.name} is empty in {len(empty)} of {len(cells)} rows, first in row {empty[0]}",
            "fill those cells or delete the rows",
        )


def _blank(cell: str) -> bool:
    return not cell or cell.isspace()


def _class_names(cells: list[Any]) -> tuple[str, ...]:
    """The classes: in numeric order where all are numbers, else by name."""
    names = {_name(cell) for cell in cells}
    if len(names) < 2:
        raise UserError(
            "own.label", f"every row has the label {_short(min(names))}", "give rows of at least two classes"
        )
    if len(names) > MAX_CLASSES:
        raise UserError(
            "own.label",
            f"the column has {len(names):,} different labels, such as {_short(min(names))}",
            f"choose a column of at most {MAX_CLASSES} classes, or kind regression for a score",
        )
    numbers = {name: _number(name) for name in names}
    if None not in numbers.values():
        return tuple(sorted(names, key=lambda name: (numbers[name], name)))
    return tuple(sorted(names))


def _labels(cells: list[Any], names: tuple[str, ...], field: str) -> NDArray[np.generic]:
    """Class numbers where there are class names, else scores."""
    if names:
        number = {name: i for i, name in enumerate(names)}
        for row, cell in enumerate(cells, start=1):
            if _name(cell) not in number:
                raise UserError(
                    field,
                    f"row {row} has the label {_short(_name(cell))}, which no training row has",
                    "correct it, or add such rows to own.path",
                )
        return np.array([number[_name(cell)] for cell in cells], dtype=np.int64)
    scores = [_number(cell) for cell in cells]
    if None in scores:
        row = scores.index(None)
        raise UserError(
            field,
            f"the score of row {row + 1} is {_short(cells[row])}, no finite number",
            "choose kind classification for names, or correct the cell (a decimal point, no comma)",
        )
    labels = np.array(scores, dtype=np.float32)
    if np.ptp(labels) == 0:
        raise UserError(field, f"every score is {labels[0]:g}", "give rows of different scores")
    return labels


def _name(cell: Any) -> str:
    """A label as a name: 1, 1.0 and "1" are the same class."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _number(cell: Any) -> float | None:
    """The cell as a finite number that a float32 holds, else None."""
    if isinstance(cell, bool) or (not isinstance(cell, (int, float, str)) and not hasattr(cell, "__float__")):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 1e30 else None


def _take(texts: Texts, rows: NDArray[np.int64]) -> Texts:
    return tuple([column[i] for i in rows] for column in texts)


def _short(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else text[:57] + "..."
