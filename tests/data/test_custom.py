"""A person's own table: every format reads alike, and what is wrong with one is said with its field and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdcore import data
from kdcore.config import OwnData
from kdcore.data import custom as own_table
from kdcore.errors import UserError

ROWS = [(f"text number {i}, with a comma", f'other "{i}"', ("no", "yes")[i % 2]) for i in range(40)]
NAMES = ("first", "second", "answer")


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def write(folder: Path, kind: str, rows: list[tuple[Any, ...]] = ROWS, names: tuple[str, ...] = NAMES) -> Path:
    path = folder / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), path)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    elif kind == "tsv":
        path.write_text("\n".join("\t".join(map(str, row)) for row in [names, *rows]))
    else:
        path.write_text("\n".join(",".join(_quoted(str(cell)) for cell in row) for row in [names, *rows]))
    return path


def settings(table: Path, **changes: Any) -> OwnData:
    return OwnData(**{"path": str(table), "text": "first", "label": "answer", **changes})


def refused(own: OwnData) -> UserError:
    with pytest.raises(UserError) as caught:
        data.load("own", own)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_formats_read_alike(tmp_path: Path, kind: str) -> None:
    loaded = data.load("own", settings(write(tmp_path, kind), text_pair="second"))
    rows = [
        (int(i), *(column[row] for column in split.texts), loaded.task.labels[split.labels[row]])
        for split in loaded.splits.values()
        for row, i in enumerate(split.ids)
    ]
    assert sorted(row[1:] for row in rows) == sorted(ROWS)
    assert len({row[0] for row in rows}) == len(rows)
    assert (loaded.task.columns, loaded.task.outputs, loaded.task.suite) == (("first", "second"), 2, "own")
    assert len(loaded.splits["validation"]) == 4
    assert loaded.partial is None


def test_dev_rows_are_a_seeded_stratified_tenth(tmp_path: Path) -> None:
    own = settings(write(tmp_path, "csv"))
    one, two = data.load("own", own), data.load("own", own)
    assert one.splits["validation"].texts == two.splits["validation"].texts
    assert one.fingerprint == two.fingerprint
    assert sorted(one.splits["validation"].labels) == [0, 0, 1, 1]


def test_dev_table_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    dev = write(tmp_path / "dev", "csv", [("dev text", "x", "yes")])
    loaded = data.load("own", settings(write(tmp_path, "csv"), validation_path=str(dev)))
    assert loaded.splits["validation"].texts == (["dev text"],)
    assert len(loaded.train) == len(ROWS)
    assert loaded.splits["validation"].labels.tolist() == [1]


def test_words_that_look_missing_are_text(tmp_path: Path) -> None:
    words = ["None", "NA", "null", "nan", "N/A"]
    rows = [(words[i % 5], "x", str(i % 2)) for i in range(40)]
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        loaded = data.load("own", settings(write(tmp_path, kind, rows)))
        assert set(loaded.train.texts[0]) == set(words)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["10", "9", "1"], ("1", "9", "10")),
        (["b", "a", "C"], ("C", "a", "b")),
        (["0.5", "-1", "0"], ("-1", "0", "0.5")),
        (["2", "x", "10"], ("10", "2", "x")),
    ],
)
def test_classes_are_sorted_by_number_or_else_by_name(tmp_path: Path, cells: list[str], names: tuple[str, ...]) -> None:
    rows = [(f"t{i}", "x", cells[i % 3]) for i in range(60)]
    assert data.load("own", settings(write(tmp_path, "csv", rows))).task.labels == names


def test_numbers_and_booleans_as_labels(tmp_path: Path) -> None:
    for values, names in (((0, 1), ("0", "1")), ((1.0, 2.0), ("1", "2")), ((True, False), ("false", "true"))):
        rows = [(f"t{i}", "x", values[i % 2]) for i in range(40)]
        for kind in ("jsonl", "parquet"):
            loaded = data.load("own", settings(write(tmp_path, kind, rows)))
            assert loaded.task.labels == names


def test_scores(tmp_path: Path) -> None:
    rows = [(f"t{i}", "x", i / 8) for i in range(40)]
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        loaded = data.load("own", settings(write(tmp_path, kind, rows), kind="regression"))
        assert loaded.task.metrics == ("pearson", "spearman")
        assert loaded.train.labels.dtype == np.float32
        both = np.concatenate([split.labels for split in loaded.splits.values()])
        assert sorted(both.tolist()) == [i / 8 for i in range(40)]


def test_line_breaks_and_quotation_marks_in_csv(tmp_path: Path) -> None:
    rows = [(f'a "quoted"\nline {i}, and more', "x", str(i % 2)) for i in range(40)]
    loaded = data.load("own", settings(write(tmp_path, "csv", rows)))
    assert all(text.startswith('a "quoted"\nline') for text in loaded.train.texts[0])


def test_semicolons_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    lines = ["first;answer", *(f"eins, zwei {i};{i % 2}" for i in range(40))]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    loaded = data.load("own", settings(path))
    assert all(text.startswith("eins, zwei") for text in loaded.train.texts[0])


def test_one_row_class_stays_in_training(tmp_path: Path) -> None:
    rows = [(f"t{i}", "x", "rare" if i == 7 else str(i % 2)) for i in range(200)]
    loaded = data.load("own", settings(write(tmp_path, "csv", rows)))
    assert loaded.task.labels == ("0", "1", "rare")
    assert 2 in loaded.train.labels


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"text": "firts"}, "own.text", "'first', 'second', 'answer'"),
        ({"text_pair": "third"}, "own.text_pair", "'first', 'second', 'answer'"),
        ({"label": "lable"}, "own.label", "'first', 'second', 'answer'"),
        ({"label": "first"}, "own.label", "twice"),
        ({"text_pair": "first"}, "own.label", "twice"),
        ({"kind": "regression"}, "own.label", "row 1"),
        ({"path": "/no/such/file.csv"}, "own.path", "no file"),
        ({"path": "/no/such/file.xlsx"}, "own.path", ".parquet"),
        ({"validation_path": "/no/such/file.csv"}, "own.validation_path", "no file"),
    ],
)
def test_settings_that_do_not_fit_the_table(tmp_path: Path, changes: dict[str, str], field: str, words: str) -> None:
    error = refused(settings(write(tmp_path, "csv"), **changes))
    assert error.field == field
    assert words in str(error)


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert refused(settings(tmp_path / "folder.csv")).field == "own.path"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize(("column", "field"), [(0, "own.text"), (1, "own.text_pair"), (2, "own.label")])
@pytest.mark.parametrize("hole", ["", "  "])
def test_empty_cells_are_counted(tmp_path: Path, kind: str, column: int, field: str, hole: str) -> None:
    rows = [
        tuple(hole if i in (4, 6) and c == column else cell for c, cell in enumerate(r)) for i, r in enumerate(ROWS)
    ]
    error = refused(settings(write(tmp_path, kind, rows), text_pair="second"))
    assert error.field == field
    assert "2 of 40 rows" in error.problem
    assert "row 5" in error.problem


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_missing_values_are_empty_cells(tmp_path: Path, kind: str) -> None:
    rows = [(None if i == 4 else "t", "x", str(i % 2)) for i in range(40)]
    assert refused(settings(write(tmp_path, kind, rows))).field == "own.text"


def test_absent_key_is_an_empty_cell(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines = [{"first": "t", "answer": str(i % 2)} for i in range(40)]
    del lines[3]["answer"]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert "row 4" in refused(settings(path)).problem


def test_one_class_only(tmp_path: Path) -> None:
    error = refused(settings(write(tmp_path, "csv", [(f"t{i}", "x", "same") for i in range(40)])))
    assert (error.field, "'same'" in error.problem) == ("own.label", True)


def test_too_many_classes(tmp_path: Path) -> None:
    error = refused(settings(write(tmp_path, "csv", [(f"t{i}", "x", f"c{i % 51}") for i in range(200)])))
    assert error.field == "own.label"
    assert "51" in error.problem
    assert (
        len(
            data.load(
                "own", settings(write(tmp_path, "csv", [(f"t{i}", "x", f"c{i % 50}") for i in range(200)]))
            ).task.labels
        )
        == 50
    )


def test_too_few_rows(tmp_path: Path) -> None:
    error = refused(settings(write(tmp_path, "csv", ROWS[:19])))
    assert (error.field, "19 rows" in error.problem) == ("own.path", True)
    assert len(data.load("own", settings(write(tmp_path, "csv", ROWS[:20]))).train) == 18


@pytest.mark.parametrize("content", [b"", b"\n", b"first,answer\n", b"\xef\xbb\xbf"])
def test_nothing_in_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assert refused(settings(path)).field in ("own.path", "own.text")


def test_wrong_encoding_says_which_byte(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"first,answer\nplain,1\ncaf\xe9,0\n")
    error = refused(settings(path))
    assert error.field == "own.path"
    assert "byte 24 (0xe9, line 3)" in error.problem
    assert "UTF-8" in error.remedy


def test_utf16_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_bytes("first\tanswer\nä\t1\n".encode("utf-16"))
    assert "byte 0" in refused(settings(path)).problem


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_line_of_ten_megabytes(tmp_path: Path, kind: str) -> None:
    rows = [*ROWS[:30], ("long " * 2_000_000, "x", "yes")]
    error = refused(settings(write(tmp_path, kind, rows)))
    assert error.field == "own.text"
    assert "row 31" in error.problem
    assert "10,000,000 characters" in error.problem


def test_quotation_mark_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("first,answer\n" + '"open,1\n' + "".join(f"text {i},{i % 2}\n" for i in range(40)))
    assert refused(settings(path)).field == "own.path"


def test_duplicate_header(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("first,answer,first\n" + "a,1,b\n" * 40)
    error = refused(settings(path))
    assert (error.field, "'first'" in error.problem) == ("own.path", True)


def test_ragged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("first,answer\n" + "a,1\n" * 5 + "a,b,1\n" + "a,0\n" * 40)
    assert "line 7" in refused(settings(path)).problem


@pytest.mark.parametrize("line", ["{", "[1]", '"text"', "[" * 100_000])
def test_broken_json_names_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"first": "a", "answer": 1}\n' + line)
    error = refused(settings(path))
    assert (error.field, "line 2" in error.problem) == ("own.path", True)


def test_damaged_parquet(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet")
    path.write_bytes(path.read_bytes()[:200])
    assert refused(settings(path)).field == "own.path"


def test_numbers_in_the_text_column(tmp_path: Path) -> None:
    rows = [(i, "x", str(i % 2)) for i in range(40)]
    error = refused(settings(write(tmp_path, "parquet", rows)))
    assert (error.field, "row 1" in error.problem) == ("own.text", True)


@pytest.mark.parametrize("score", ["abc", "nan", "inf", "1e999", "1,5", "1e39"])
def test_scores_that_are_no_finite_numbers(tmp_path: Path, score: str) -> None:
    rows = [(f"t{i}", "x", score if i == 12 else str(i)) for i in range(40)]
    error = refused(settings(write(tmp_path, "csv", rows), kind="regression"))
    assert error.field == "own.label"
    assert "row 13" in error.problem


def test_equal_scores(tmp_path: Path) -> None:
    rows = [(f"t{i}", "x", 2.5) for i in range(40)]
    assert "2.5" in refused(settings(write(tmp_path, "csv", rows), kind="regression")).problem


def test_dev_label_that_training_lacks(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    dev = write(tmp_path / "dev", "csv", [("t", "x", "perhaps")])
    error = refused(settings(write(tmp_path, "csv"), validation_path=str(dev)))
    assert (error.field, "'perhaps'" in error.problem) == ("own.validation_path", True)


def test_task_own_without_a_table() -> None:
    with pytest.raises(UserError) as caught:
        data.load("own")
    assert caught.value.field == "own"


def test_messages_stay_short(tmp_path: Path) -> None:
    rows = [("t", "x", "same label " * 500)] * 40
    assert len(str(refused(settings(write(tmp_path, "csv", rows))))) < 500
    assert own_table.MAX_CHARACTERS > 5000


# --- domains ----------------------------------------------------------------------------------------------------------

OF_DOMAINS = [(*row, ("books", " films ")[place % 2]) for place, row in enumerate(ROWS)]
WITH_DOMAIN = (*NAMES, "where")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_says_which_domain_a_row_is_of(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, OF_DOMAINS, WITH_DOMAIN)
    loaded = data.load("own", settings(path, domain="where"))
    assert loaded.domains == ("books", "films") and loaded.splits["validation"].sources is None
    expected = {row[0]: row[-1].strip() for row in OF_DOMAINS}
    for text, number in zip(loaded.train.texts[0], loaded.train.sources, strict=True):
        assert loaded.domains[number] == expected[text]
    plain = data.load("own", settings(path))
    assert plain.domains == () and plain.train.sources is None
    assert plain.fingerprint == loaded.fingerprint, "the rows are the same: their runs are compared"
    assert plain.train.texts == loaded.train.texts
    moved = write(tmp_path, kind, [*OF_DOMAINS[:-1], (*OF_DOMAINS[-1][:-1], "songs")], WITH_DOMAIN)
    other = data.load("own", settings(moved, domain="where"))
    assert other.fingerprint == loaded.fingerprint and plain.domain_fingerprint == ""
    assert other.domain_fingerprint != loaded.domain_fingerprint


def test_texts_without_a_label_name_their_domain_too(tmp_path: Path) -> None:
    path, more = write(tmp_path, "csv", OF_DOMAINS, WITH_DOMAIN), tmp_path / "more.csv"
    more.write_text("first,where\none more,songs\nand another,books\n")
    loaded = data.load("own", settings(path, domain="where", unlabelled_path=str(more)))
    assert loaded.domains == ("books", "films", "songs") and loaded.unlabelled.sources.tolist() == [2, 0]
    more.write_text("first\none more\nand another\n")
    assert refused(settings(path, domain="where", unlabelled_path=str(more))).field == "own.unlabelled_path"


def test_domains_that_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", OF_DOMAINS, WITH_DOMAIN)
    assert refused(settings(path, domain="nowhere")).field == "own.domain"
    assert "chosen twice" in refused(settings(path, domain="answer")).problem
    empty = write(tmp_path, "csv", [*OF_DOMAINS[:-1], (*OF_DOMAINS[-1][:-1], "")], WITH_DOMAIN)
    assert "empty in 1 of" in refused(settings(empty, domain="where")).problem
    many = [(f"text {i}", "x", ("yes", "no")[i % 2], f"place {i}") for i in range(150)]
    said = refused(settings(write(tmp_path, "csv", many, WITH_DOMAIN), domain="where"))
    assert said.field == "own.domain" and "different values, more than 100" in said.problem
