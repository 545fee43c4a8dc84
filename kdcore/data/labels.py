"""Cells of a label column as classes or scores: equal labels are joined, and what is not a label is refused."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.data.notes import Note, row_list, short
from kdcore.errors import UserError

FEW_CLASSES = 50
"""Up to here any table is taken; a column of more classes needs rows for each."""

MAX_CLASSES = 1000
ROWS_PER_CLASS = 4
"""Mean rows a class that a table of more than FEW_CLASSES needs; a column of texts or ids has about one."""

FEW_SCORES = 10
"""Whole scores of at most so many values may be class numbers."""

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_NUMERAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")
_NOT_LABELS = {"nan", "nat", "<na>"}
_MISSING_MARKS = {"-", "--", "?", ".", "na", "n/a", "#n/a", "none", "null", "nil", "missing", "unlabeled", "unlabelled"}


@dataclass(frozen=True)
class Classes:
    """names: in the order of the class numbers. number: the key of a label (`label_key`) -> its class number."""

    names: tuple[str, ...]
    number: Mapping[Hashable, int]
    notes: tuple[Note, ...] = ()


def label_key(cell: Any) -> Hashable:
    """What labels of one class share: the value of a number; of text its letters but for case and spacing.

    >>> label_key("01") == label_key(1.0), label_key(" Positive") == label_key("positive"), label_key(True)
    (True, True, 'true')
    """
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int | Decimal):
        return Decimal(cell)
    if isinstance(cell, float):
        return Decimal(repr(cell))
    text = " ".join(_INVISIBLE.sub("", str(cell)).split())
    if _NUMERAL.fullmatch(text):
        return Decimal(text)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def label_text(cell: Any) -> str:
    """A label as it is written, without blanks around it; a whole float as an integer."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def is_missing(cell: Any) -> bool:
    """Whether a cell of any column holds nothing: None, NaN, or only blanks."""
    if isinstance(cell, str):
        return not _INVISIBLE.sub("", cell).strip()
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def check_labels(cells: Sequence[Any], field: str, name: str) -> None:
    """Refuses cells that are not one label each.

    Args:
        field: what the message names, e.g. "own.label".
        name: of the file.

    Raises:
        UserError: lists, objects, bytes, infinite numbers, "nan"; with the rows.
    """
    wrong = [row for row, cell in enumerate(cells, start=1) if _not_scalar(cell)]
    if wrong:
        raise UserError(
            field,
            f"the label in {row_list(wrong)} of {name} is {_kind(cells[wrong[0] - 1])}, {short(cells[wrong[0] - 1])}",
            "give one text or number per row; rows with several labels cannot be learned here",
        )
    missing = [
        row for row, cell in enumerate(cells, start=1) if isinstance(cell, str) and label_key(cell) in _NOT_LABELS
    ]
    if missing:
        raise UserError(
            field,
            f"the label in {row_list(missing)} of {name} is {short(cells[missing[0] - 1])}, which stands for no value",
            "fill those cells or delete the rows",
        )


def find_classes(cells: Sequence[Any], name: str) -> Classes:
    """The classes of a label column: in numeric order where all are numbers, else by name.

    Labels with one `label_key` are one class, named as it is most often written.

    Raises:
        UserError: fewer than two classes, or too many.
    """
    spellings: dict[Hashable, Counter[str]] = {}
    for cell in cells:
        spellings.setdefault(label_key(cell), Counter())[label_text(cell)] += 1
    counts = {_commonest(written): written.total() for written in spellings.values()}
    names = sorted(counts)
    if len(names) < 2:
        raise UserError("own.label", f"every row has the label {short(names[0])}", "give rows of at least two classes")
    if len(names) > MAX_CLASSES or (len(names) > FEW_CLASSES and len(cells) < ROWS_PER_CLASS * len(names)):
        raise UserError(
            "own.label",
            f"the column has {len(names):,} different labels in {len(cells):,} rows, such as {short(names[0])}",
            f"choose a column of at most {FEW_CLASSES} classes (or of at most {MAX_CLASSES:,} with {ROWS_PER_CLASS} "
            f"rows per class on average), or kind regression for a score",
        )
    values = {each: number_of(each) for each in names}
    if None not in values.values():
        names = sorted(names, key=lambda each: (values[each], each))
    place = {each: number for number, each in enumerate(names)}
    number = {key: place[_commonest(written)] for key, written in spellings.items()}
    notes = (*_spelling_notes(spellings, name), *_odd_classes(counts, name))
    return Classes(tuple(names), number, notes)


def class_numbers(cells: Sequence[Any], classes: Classes, field: str) -> NDArray[np.int64]:
    """int64 [rows].

    Raises:
        UserError: a label that no training row has.
    """
    for row, cell in enumerate(cells, start=1):
        if label_key(cell) not in classes.number:
            raise UserError(
                field,
                f"row {row} has the label {short(label_text(cell))}, which no training row has",
                "correct it, or add such rows to own.path",
            )
    return np.array([classes.number[label_key(cell)] for cell in cells], dtype=np.int64)


def score_values(cells: Sequence[Any], field: str) -> NDArray[np.float32]:
    """float32 [rows].

    Raises:
        UserError: a cell that is not a finite number, with its row.
    """
    scores = [number_of(cell) for cell in cells]
    if None in scores:
        row = scores.index(None)
        raise UserError(
            field,
            f"the score of row {row + 1} is {short(cells[row])}, not a finite number",
            "choose kind classification for names, or correct the cell (a decimal point, no comma)",
        )
    return np.array(scores, dtype=np.float32)


def score_notes(scores: NDArray[np.floating]) -> Iterator[Note]:
    """A warning where the scores look like the numbers of classes."""
    values = np.unique(scores)
    if len(values) <= FEW_SCORES and np.array_equal(values, np.round(values)):
        listed = ", ".join(f"{value:g}" for value in values)
        yield Note(
            "warn",
            "own.kind",
            f"the only scores are {listed}, which may be the numbers of classes",
            "choose kind classification if they are classes",
        )


def number_of(cell: Any) -> float | None:
    """The cell as a finite number that a float32 holds, else None."""
    if isinstance(cell, bool) or (not isinstance(cell, int | float | str) and not hasattr(cell, "__float__")):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 1e30 else None


def _not_scalar(cell: Any) -> bool:
    if isinstance(cell, float):
        return math.isinf(cell)
    return isinstance(cell, list | tuple | set | dict | bytes | bytearray | memoryview)


def _kind(cell: Any) -> str:
    if isinstance(cell, float):
        return "infinite"
    if isinstance(cell, dict):
        return "an object"
    return "a list" if isinstance(cell, list | tuple | set) else "binary"


def _commonest(spellings: Counter[str]) -> str:
    return min(spellings, key=lambda text: (-spellings[text], len(text), text))


def _spelling_notes(spellings: Mapping[Hashable, Counter[str]], name: str) -> Iterator[Note]:
    several = [written for written in spellings.values() if len(written) > 1]
    if several:
        example = ", ".join(f"{short(text)} ({times:,})" for text, times in several[0].most_common(4))
        more = f"; so are {len(several) - 1} others" if len(several) > 1 else ""
        yield Note(
            "warn",
            "own.label",
            f"{name} writes one class in several ways, which are read as one class: {example}{more}",
            "give classes names that differ in more than case or spacing if they are not the same",
        )


def _odd_classes(counts: Mapping[str, int], name: str) -> Iterator[Note]:
    """Classes that may not be classes: marks of missing labels, scores, several labels at once, near-equal names."""
    for mark in _missing_marks(counts):
        yield Note(
            "warn",
            "own.label",
            f"the class {short(mark)} ({counts[mark]:,} rows of {name}) often marks rows without a label",
            "delete those rows if it does",
        )
    values = [number_of(each) for each in counts]
    numbers = [value for value in values if value is not None]
    if len(numbers) == len(values) and any(value != round(value) for value in numbers):
        broken = min(value for value in numbers if value != round(value))
        yield Note(
            "warn",
            "own.kind",
            f"the {len(counts)} labels are numbers with fractions, such as {broken:g}, which may be scores",
            "choose kind regression if they are scores",
        )
    if several := [each for each in counts if _is_several(each, counts)]:
        yield Note(
            "warn",
            "own.label",
            f"labels such as {short(several[0])} seem to hold several labels, and are read as classes of their own",
            "give one label per row; rows with several labels cannot be learned here",
        )
    if alike := _look_alike(counts):
        yield Note(
            "warn",
            "own.label",
            f"the classes {short(alike[0])} and {short(alike[1])} differ only in marks or spaces",
            "write them alike if they are one class",
        )


def _missing_marks(counts: Mapping[str, int]) -> Iterator[str]:
    keys = {label_key(each): each for each in counts}
    for key, each in keys.items():
        if key in _MISSING_MARKS and not (key == "-" and "+" in keys):
            yield each
    numbers = {key for key in keys if isinstance(key, Decimal)}
    if {key for key in numbers if key < 0} == {Decimal(-1)} and numbers != {Decimal(-1), Decimal(1)}:
        yield keys[Decimal(-1)]


def _is_several(name: str, names: Mapping[str, int]) -> bool:
    if re.fullmatch(r"\[.*\]|\{.*\}", name, re.DOTALL):
        return True
    parts = [part.strip() for part in re.split(r"[,;|]", name)]
    return len(parts) > 1 and all(part in names for part in parts)


def _look_alike(names: Mapping[str, int]) -> tuple[str, str] | None:
    """Two names of four letters or more that are equal but for marks and spaces."""
    seen: dict[str, str] = {}
    for name in names:
        letters = re.sub(r"[\W_]", "", name).casefold()
        if len(letters) < 4 or letters.isdecimal():
            continue
        if letters in seen:
            return seen[letters], name
        seen[letters] = name
    return None
