"""Label cells: equal ones are one class, what is not a label is refused with its rows, odd classes are warned of."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdcore import data
from kdcore.config import OwnData
from kdcore.data.labels import label_key
from kdcore.data.splits import TaskData
from kdcore.errors import UserError


def table(folder: Path, kind: str, labels: list[Any]) -> Path:
    path = folder / f"labels.{kind}"
    rows = [{"text": f"row {i}", "label": label} for i, label in enumerate(labels)]
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("text,label\n" + "\n".join(f'{row["text"]},"{row["label"]}"' for row in rows), encoding="utf-8")
    return path


def load(folder: Path, ending: str, labels: list[Any], **own: Any) -> TaskData:
    return data.load("own", OwnData(path=str(table(folder, ending, labels)), text="text", label="label", **own))


def warnings(loaded: TaskData) -> str:
    return "\n".join(note.text for note in loaded.notes if note.level == "warn")


@pytest.mark.parametrize(
    ("kind", "cells", "names"),
    [
        ("csv", ["1", "1.0", "01", "0", "0.0", " 1", "+1"], ("0", "1")),
        ("jsonl", [1, "1", 1.0, "01", 0, "0", 0.0], ("0", "1")),
        ("csv", ["True", "true", "TRUE", "False", "false", "False", "True"], ("False", "True")),
        ("jsonl", [True, "True", "true", False, "FALSE", False, True], ("false", "true")),
        ("csv", ["Positive", "positive", "negative", "positive", " NEGATIVE", "negative"], ("negative", "positive")),
        ("csv", ["caf\u00e9", "cafe\u0301", "tea", "te\u200ba", "tea", "caf\u00e9"], ("caf\u00e9", "tea")),
        ("csv", ["stra\u00dfe", "STRASSE", "weg", "weg", "stra\u00dfe"], ("stra\u00dfe", "weg")),
        ("csv", ["new york", "new  york", "rome", "rome", "new\u00a0york", "new york"], ("new york", "rome")),
    ],
)
def test_equal_labels_are_one_class(tmp_path: Path, kind: str, cells: list[Any], names: tuple[str, ...]) -> None:
    loaded = load(tmp_path, kind, cells * 6)
    assert loaded.task.labels == names
    assert "read as one class" in warnings(loaded)


def test_labels_written_alike_keep_their_spelling_without_a_word(tmp_path: Path) -> None:
    for cells, names in ((["1.0", "0.0"], ("0.0", "1.0")), (["Yes", "no"], ("Yes", "no"))):
        loaded = load(tmp_path, "csv", cells * 20)
        assert (loaded.task.labels, loaded.notes) == (names, ())


def test_large_numbers_stay_apart() -> None:
    assert label_key("9007199254740993") != label_key("9007199254740992")
    assert label_key(Decimal("1.50")) == label_key("1.5")
    assert label_key("1E3") != label_key("1000")  # a code, such as of a room


@pytest.mark.parametrize(
    ("kind", "bad", "words"),
    [
        ("jsonl", ["a", "b"], "a list"),
        ("jsonl", {"name": "neg"}, "an object"),
        ("jsonl", float("inf"), "infinite"),
        ("jsonl", "nan", "no value"),
        ("csv", "nan", "no value"),
        ("csv", "NaN", "no value"),
        ("parquet", "<NA>", "no value"),
    ],
)
def test_what_is_not_a_label_is_refused_with_its_rows(tmp_path: Path, kind: str, bad: Any, words: str) -> None:
    cells: list[Any] = ["yes", "no"] * 20
    for row in (3, 8, 9, 11, 12):
        cells[row - 1] = bad
    with pytest.raises(UserError) as caught:
        load(tmp_path, kind, cells)
    assert caught.value.field == "own.label"
    assert "rows 3, 8, 9 and 2 more" in caught.value.problem
    assert words in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize("cells", [[b"a", b"b"], [[0], [1]], [{"x": 1}, {"x": 2}]])
def test_binary_lists_and_objects_in_parquet(tmp_path: Path, cells: list[Any]) -> None:
    with pytest.raises(UserError, match=r"own\.label: the label in rows 1, 2, 3 and 37 more"):
        load(tmp_path, "parquet", cells * 20)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("column", ["text", "label"])
def test_nan_is_an_empty_cell(tmp_path: Path, kind: str, column: str) -> None:
    path = tmp_path / f"t.{kind}"
    rows: list[dict[str, Any]] = [{"text": float(i), "label": float(i % 2)} for i in range(40)]
    if column == "label":
        rows = [row | {"text": "some words"} for row in rows]
    for i in (4, 6):
        rows[i][column] = float("nan")
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(UserError) as caught:
        data.load("own", OwnData(path=str(path), text="text", label="label"))
    assert caught.value.field == f"own.{column}"
    assert caught.value.problem.endswith("empty in 2 of 40 rows, first in row 5, then in row 7")


def test_dates_are_labels_as_before(tmp_path: Path) -> None:
    loaded = load(tmp_path, "parquet", [date(2024, 1, 1), date(2025, 1, 1)] * 20)
    assert loaded.task.labels == ("2024-01-01", "2025-01-01")


@pytest.mark.parametrize("mark", ["-1", "-", "?", "N/A", "null", "None"])
def test_a_class_that_marks_missing_labels_is_told(tmp_path: Path, mark: str) -> None:
    numbers = mark == "-1"
    cells = ["0" if numbers else "a", "1" if numbers else "b", "2" if numbers else "c"] * 15 + [mark] * 3
    assert f"the class '{mark}' (3 rows of labels.csv)" in warnings(load(tmp_path, "csv", cells))


@pytest.mark.parametrize("cells", [["-1", "1"], ["-", "+"], ["-2", "-1", "0", "1", "2"]])
def test_signs_that_are_classes_are_not_told(tmp_path: Path, cells: list[str]) -> None:
    assert not load(tmp_path, "csv", cells * 12).notes


def test_scores_read_as_classes_and_classes_read_as_scores(tmp_path: Path) -> None:
    halves = [f"{i / 2}" for i in range(10)] * 6
    assert "may be scores" in warnings(load(tmp_path, "csv", halves))
    assert "may be the numbers of classes" in warnings(load(tmp_path, "csv", ["0", "1", "2"] * 20, kind="regression"))
    assert not load(tmp_path, "csv", halves, kind="regression").notes


@pytest.mark.parametrize("several", ["['joy', 'anger']", "joy, anger", "joy|anger"])
def test_several_labels_in_one_cell_are_told(tmp_path: Path, several: str) -> None:
    assert "several labels" in warnings(load(tmp_path, "csv", ["joy", "anger"] * 20 + [several]))


def test_names_that_differ_in_marks_are_told(tmp_path: Path) -> None:
    assert "'not_ok' and 'not-ok'" in warnings(load(tmp_path, "csv", ["not_ok", "not-ok", "fine"] * 10))


@pytest.mark.parametrize("classes", [77, 150])
def test_many_intents_are_read(tmp_path: Path, classes: int) -> None:
    loaded = load(tmp_path, "csv", [f"intent {i % classes}" for i in range(8 * classes)])
    assert loaded.task.outputs == classes


@pytest.mark.parametrize(("classes", "rows"), [(60, 3), (1001, 8)])
def test_a_column_of_texts_is_not_taken_for_classes(tmp_path: Path, classes: int, rows: int) -> None:
    with pytest.raises(UserError, match=rf"own\.label: the column has {classes:,} different labels"):
        load(tmp_path, "csv", [f"intent {i % classes}" for i in range(rows * classes)])


def test_dev_labels_in_another_spelling_are_known(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    dev = table(tmp_path / "dev", "csv", ["YES", " no "] * 10)
    loaded = load(tmp_path, "csv", ["yes", "no"] * 20, validation_path=str(dev))
    assert loaded.splits["validation"].labels.tolist() == [1, 0] * 10
