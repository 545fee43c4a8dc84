"""Files as people write them: separators, quoting, line ends, JSON of all shapes, and what is not a table."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdcore import data
from kdcore.config import OwnData
from kdcore.data import tables
from kdcore.data.splits import TaskData
from kdcore.data.tables import read_table
from kdcore.errors import UserError

ROWS = [{"text": f"a {('bad', 'good')[i % 2]} film, number {i}", "label": ("neg", "pos")[i % 2]} for i in range(40)]


def load(path: Path, text: str = "text", label: str = "label") -> TaskData:
    return data.load("own", OwnData(path=str(path), text=text, label=label))


def texts(path: Path) -> list[str]:
    return sorted(text for split in load(path).splits.values() for text in split.texts[0])


def written(path: Path, separator: str, rows: list[dict[str, str]] = ROWS, **dialect: object) -> Path:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator="\n", **dialect)  # type: ignore[arg-type]
    writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    path.write_bytes(file.getvalue().encode())
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_follows_from_the_rows(tmp_path: Path, ending: str, separator: str) -> None:
    path = written(tmp_path / f"table.{ending}", separator)
    assert texts(path) == sorted(row["text"] for row in ROWS)
    assert not load(path).notes


def test_a_quoted_header_with_other_separators(tmp_path: Path) -> None:
    rows = [{"text, of the film; long": row["text"], "label": row["label"]} for row in ROWS]
    for separator in (",", ";", "\t"):
        path = written(tmp_path / "table.csv", separator, rows)
        assert len(load(path, text="text, of the film; long").train) == 36


def test_the_first_line_of_excel(tmp_path: Path) -> None:
    path = written(tmp_path / "table.csv", "|")
    path.write_bytes(b"\xef\xbb\xbfsep=|\r\n" + path.read_bytes())
    assert texts(path) == sorted(row["text"] for row in ROWS)


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_line_ends(tmp_path: Path, end: bytes, ending: str) -> None:
    path = written(tmp_path / f"table.{ending}", "," if ending == "csv" else "\t")
    path.write_bytes(path.read_bytes().replace(b"\n", end))
    assert texts(path) == sorted(row["text"] for row in ROWS)


@pytest.mark.parametrize("mark", ['said "so"', '"all of it"', 'a 5" screen', "two\nlines", "a\ttab", '"'])
def test_tsv_as_pandas_writes_it(tmp_path: Path, mark: str) -> None:
    rows = [row | {"text": f"{row['text']} {mark}" if i % 3 else row["text"]} for i, row in enumerate(ROWS)]
    path = tmp_path / "table.tsv"
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        pd.DataFrame(rows).to_csv(path, sep="\t", index=False, quoting=quoting)
        assert texts(path) == sorted(row["text"] for row in rows)


@pytest.mark.parametrize("mark", ['said "so"', 'a 5" screen', '"', '"open'])
def test_marks_of_a_plain_tsv_are_text(tmp_path: Path, mark: str) -> None:
    rows = [row | {"text": f"{mark} {row['text']}" if i % 3 else row["text"]} for i, row in enumerate(ROWS)]
    path = tmp_path / "table.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in rows))
    assert texts(path) == sorted(row["text"] for row in rows)


def test_some_texts_wholly_in_marks_are_text_in_a_tsv(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("text\tlabel\n" + "".join(f'"film {i}"\tneg\nfilm {i}\tpos\n' for i in range(20)))
    assert sum(text.startswith('"') for text in texts(path)) == 20


def test_two_ways_of_quoting_in_one_tsv_are_told(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    lines = [f'"He said ""so {i}"""\tneg\na 5" screen {i}\tpos\n' for i in range(20)]
    path.write_text("text\tlabel\n" + "".join(lines))
    (note,) = load(path).notes
    assert (note.level, "20 cells of table.tsv" in note.text) == ("warn", True)


def test_marks_escaped_by_a_backslash(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    lines = [f'"he said \\"number {i}\\", twice",{("neg", "pos")[i % 2]}\n' for i in range(40)]
    path.write_text("text,label\n" + "".join(lines))
    assert texts(path) == sorted(f'he said "number {i}", twice' for i in range(40))


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("label,text,,,\n" + "".join(f'{row["label"]},"{row["text"]}",,,\n' for row in ROWS))
    assert texts(path) == sorted(row["text"] for row in ROWS)
    pd.DataFrame(ROWS).to_csv(path)
    assert not load(path).notes
    path.write_text("label,text,,\n" + "".join(f"{row['label']},{row['text']},\n" for row in ROWS))
    assert "40 rows of table.csv have text in columns without a name" in load(path).notes[0].text


def test_empty_cells_at_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("text,label\n" + "".join(f"film {i},{i % 2},,\n" for i in range(40)))
    assert len(texts(path)) == 40


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize("shape", ["lines", "list", "indented list"])
def test_json_of_objects(tmp_path: Path, ending: str, shape: str) -> None:
    path = tmp_path / f"table.{ending}"
    lines = "\n".join(map(json.dumps, ROWS))
    path.write_text({"lines": lines, "list": json.dumps(ROWS), "indented list": json.dumps(ROWS, indent=2)}[shape])
    assert texts(path) == sorted(row["text"] for row in ROWS)


@pytest.mark.parametrize("orient", ["columns", "list", "data"])
def test_json_of_columns(tmp_path: Path, orient: str) -> None:
    path = tmp_path / "table.json"
    frame = pd.DataFrame(ROWS)
    content = {"version": "1", "data": ROWS} if orient == "data" else None
    path.write_text(frame.to_json() if orient == "columns" else json.dumps(content or frame.to_dict("list")))
    assert texts(path) == sorted(row["text"] for row in ROWS)


@pytest.mark.parametrize("content", ["[1, 2]", '"text"', '{"a": [1], "b": [1, 2]}', "{", "[" * 100_000, "[]"])
def test_json_that_is_not_a_table(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load(path)
    assert (caught.value.field, bool(caught.value.remedy)) == ("own.path", True)


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": "a", "label": 1, "label": 0}\n' * 20)
    with pytest.raises(UserError, match=r"line 2 of table\.jsonl is not JSON .the key 'label' stands twice"):
        load(path)


def test_no_header(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("".join(f"{row['text']}\t{row['label']}\n" for row in ROWS))
    (note,) = load(path, text=ROWS[0]["text"], label="neg").notes
    assert "the first line of table.tsv, 'a bad film, number 0' and 'neg', is read as column names" in note.text
    assert "add a first line with column names" in note.remedy
    with pytest.raises(UserError, match="if they are a row, add a line with column names"):
        load(path)


def test_no_header_of_scores_or_of_a_rare_label(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("one film,2.5\n" + "".join(f"film {i},{i / 7}\n" for i in range(40)))
    own = OwnData(path=str(path), text="one film", label="2.5", kind="regression")
    assert "so it seems to be a row" in data.load("own", own).notes[0].text
    path.write_text("this is a film as long as it is bad,odd\n" + "".join(f"film {i},{i % 2}\n" for i in range(40)))
    assert "the first is a sentence" in load(path, "this is a film as long as it is bad", "odd").notes[0].text


def test_a_header_that_stands_again_among_the_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "table.csv", ",", [*ROWS, {"text": "text", "label": "label"}])
    (note,) = [note for note in load(path).notes if note.field == "own.path"]
    assert "row 41 of table.csv repeats the header" in note.text


def test_half_a_character_is_replaced_and_told(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    rows = [row | {"text": row["text"] + "\ud83d"} if i in (4, 7) else row for i, row in enumerate(ROWS)]
    rows[0] = rows[0] | {"label": "neg\udc00"}
    path.write_text("\n".join(map(json.dumps, rows)))
    loaded = load(path)
    assert "rows 5, 8 of column 'text'" in loaded.notes[0].text
    everything = [text for split in loaded.splits.values() for text in split.texts[0]] + list(loaded.task.labels)
    assert "\ufffd" in "".join(everything).encode().decode()  # encode() fails on half characters


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html></html>", "web page"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet", "txt"])
def test_what_stands_in_place_of_the_file_is_named(tmp_path: Path, content: bytes, words: str, ending: str) -> None:
    path = tmp_path / f"table.{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        load(path)


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name, words in (("zero", "not a regular file"), ("pipe", "not a regular file"), ("folder", "a folder")):
        with pytest.raises(UserError, match=words):
            load(tmp_path / f"{name}.csv")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x.csv", "a\0b.csv", "x" * 400 + ".csv", "x" * 4000 + ".csv"])
def test_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(UserError) as caught:
        data.load("own", OwnData(path=path, text="text", label="label"))
    assert caught.value.field == "own.path"


def test_a_small_parquet_file_of_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    rows = {"text": ["word " * 2000] * 1000, "label": ["a", "b"] * 500, "image": [b"\0" * 100_000] * 1000}
    pq.write_table(pa.table(rows), path, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(tables, "MAX_BYTES", 8 * 1024**2)
    assert path.stat().st_size < tables.MAX_BYTES
    with pytest.raises(UserError, match="unpacked"):
        load(path)
    monkeypatch.setattr(tables, "MAX_BYTES", 20 * 1024**2)
    assert len(read_table(path, "own.path", ["text", "label"]).columns["text"]) == 1000  # the image is not unpacked
    pq.write_table(pa.table(rows), path, compression="zstd")  # each text is stored once
    monkeypatch.setattr(tables, "MAX_BYTES", 8 * 1024**2)
    with pytest.raises(UserError, match="unpacked"):
        load(path)


def test_a_parquet_file_of_one_word_in_millions_of_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored once, the word takes as much memory as there are rows."""
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"text": ["film"] * 100_000, "label": ["a"] * 100_000}), path)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(tables, "MAX_BYTES", 5 * 1024**2)
    with pytest.raises(UserError, match="unpacked"):
        read_table(path, "own.path", ["text", "label"])
