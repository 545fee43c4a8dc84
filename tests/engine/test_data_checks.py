"""What a person reads about the rows before the start; every case is an own table of a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdcore.config import DataConfig, OwnData, RunConfig, StudentSpec, TeacherSpec, TrainConfig
from kdcore.data import load
from kdcore.data.damage import learning_rows
from kdcore.data.notes import Note
from kdcore.data.row_report import Lengths
from kdcore.engine import preflight
from kdcore.engine.data_checks import about_rows
from kdcore.engine.plan import Plan
from kdcore.models.students import save_student
from tests.helpers import model_factory

Row = tuple[str, Any]


def written(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return str(path)


def notes(
    folder: Path, rows: Sequence[Row], dev: Sequence[Row] = (), lengths: Lengths | None = None, **own: str
) -> list[Note]:
    table = {"path": written(folder / "table.csv", rows), "text": "text", "label": "label"}
    if dev:
        table["validation_path"] = written(folder / "dev.csv", dev)
    data = load("own", OwnData(**table | own))  # type: ignore[arg-type]
    return list(about_rows(data, learning_rows(data, TrainConfig(), DataConfig()), 128, lengths or {}))


def warned(found: list[Note]) -> str:
    assert all(note.remedy for note in found if note.level == "warn")
    return "\n".join(f"{note.field}: {note.text}" for note in found if note.level == "warn")


def rows(count: int, classes: Sequence[Any] = ("neg", "pos")) -> list[Row]:
    return [(f"film {i}", classes[i % len(classes)]) for i in range(count)]


def test_a_sound_table_has_its_classes_counted_and_no_warning(tmp_path: Path) -> None:
    found = notes(tmp_path, rows(1000))
    assert not warned(found)
    texts = [note.text for note in found]
    assert "training rows by class: 'neg' 405, 'pos' 405" in texts
    assert "f1 (of the class 'pos')" in texts


def test_dev_rows_that_are_training_rows(tmp_path: Path) -> None:
    table = rows(100)
    assert "100 of 100 validation rows are also training rows" in warned(notes(tmp_path, table, table))
    part = [*table[:3], *((f"new {i}", "pos") for i in range(47)), ("new", "neg")]
    assert "3 of 51 validation rows" in warned(notes(tmp_path, table, part))
    assert "also training rows" not in warned(notes(tmp_path, table, part[3:]))


def test_equal_rows_with_opposite_labels(tmp_path: Path) -> None:
    table = [*rows(100), ("Film  3", "neg"), ("film 4", "neg")]
    assert "2 training rows have the texts of another row" in warned(notes(tmp_path, table, rows(60, ("pos", "neg"))))


def test_a_rare_class_that_nothing_scores(tmp_path: Path) -> None:
    said = warned(notes(tmp_path, [*rows(195, ("ham",)), *((f"win {i}", "spam") for i in range(5))]))
    assert "of the class 'ham': always answering it has that accuracy" in said
    assert "no validation row has the class 'spam' (all its rows are of one class)" in said
    assert "train.select_fraction: no select row has the class 'spam'" in said


def test_classes_of_few_rows(tmp_path: Path) -> None:
    """A few rare classes are told of; where all are rare, it is the kind of the table, and plain information."""
    mixed = [*rows(20 * 7, [f"intent {i}" for i in range(7)]), ("odd", "intent 7"), ("odd one", "intent 7")]
    assert "fewer than 5 training rows for: 'intent 7' " in warned(notes(tmp_path, mixed))
    small = notes(tmp_path, rows(4 * 77, [f"intent {i}" for i in range(77)]))
    told = [note.text for note in small if note.level == "ok"]
    assert any(text.startswith("fewer than 5 training rows for: 'intent 0' ") for text in told) and not warned(small)
    assert any(text.startswith("no select row has the class") for text in told)
    assert "fewer than 5" not in warned(notes(tmp_path, rows(20 * 77, [f"intent {i}" for i in range(77)])))


@pytest.mark.parametrize(("count", "level"), [(1, "warn"), (3, "warn"), (4, "ok"), (60, None)])
def test_dev_of_few_rows(tmp_path: Path, count: int, level: str | None) -> None:
    found = notes(tmp_path, rows(600), [(f"new {i}", ("pos", "neg")[i % 2]) for i in range(count)])
    assert [note.level for note in found if "of accuracy" in note.text] == ([level] if level else [])
    assert ("own.validation_path: dev.csv has" in warned(found)) == (count < 20)


def test_scores(tmp_path: Path) -> None:
    found = notes(tmp_path, [(f"house {i}", i * 10_000) for i in range(99)], kind="regression")
    assert "the scores reach 980,000" in warned(found)
    assert "standardise" in "".join(note.remedy for note in found)
    found = notes(tmp_path, [(f"pair {i}", i / 20) for i in range(100)], kind="regression")
    assert not warned(found)
    assert any(note.text.startswith("scores from 0 to") for note in found)


@pytest.mark.parametrize(("long", "level"), [(0, None), (1, "ok"), (10, "warn")])
def test_rows_that_are_cut(tmp_path: Path, long: int, level: str | None) -> None:
    lengths = {"train": np.array([129] * long + [128] * (200 - long))}
    found = [note for note in notes(tmp_path, rows(600), lengths=lengths) if note.field == "train.max_length"]
    assert [note.level for note in found] == ([level] if level else [])


def test_preflight_says_it(tmp_path: Path) -> None:
    table = [(f"{'long ' * 100} film {i}", ("neg", "pos")[i % 2]) for i in range(100)]
    save_student(model_factory.model(1, 0), model_factory.tokenizer(), tmp_path / "teacher")
    run = RunConfig(
        task="own",
        own=OwnData(path=written(tmp_path / "table.csv", table), text="text", label="label"),
        method="kd",
        teachers=(TeacherSpec(name="t", source="folder", where=str(tmp_path / "teacher")),),
        student=StudentSpec(layers=1, width=32, heads=2, init="random"),
        train=TrainConfig(max_length=32),
    )
    said = {(line.level, line.field) for line in preflight.check(Plan(run)).lines}
    assert ("warn", "train.max_length") in said
