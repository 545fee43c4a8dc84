"""Answers of a published folder to the rows of a file: a class and its probability each, or a score."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdcore.data.encode import Encoded, encode
from kdcore.data.notes import short
from kdcore.data.splits import Split
from kdcore.data.tables import Table, read_table
from kdcore.errors import UserError
from kdcore.export.folder import read_facts
from kdcore.export.pipeline_files import longest_row
from kdcore.export.runtimes import INT8, ONNX, Logits, onnx_logits, torch_logits

Runtime = Literal["auto", "onnx", "onnx-int8", "torch"]
"""auto: model.onnx where the folder has one, else the weights by torch, else model-int8.onnx."""

FORMATS = (".csv", ".tsv", ".jsonl")
PREDICTION, PROBABILITY = "prediction", "probability"
MOST_CHARACTERS = 100_000
"""Of one text; a longer one is nearly always a quotation mark that was never closed."""

_HALF = re.compile("[\ud800-\udfff]")
"""Half a character, which no tokenizer takes."""

_FILES = {"onnx": ONNX, "onnx-int8": INT8}


@dataclass(frozen=True)
class Reader:
    """A published folder, and what it reads. columns: names of the one or two columns of text.

    classes: in the order of the outputs; empty for scores. longest: tokens of a row. runtime: what computes.
    """

    folder: Path
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    longest: int
    runtime: Runtime

    def logits(self, texts: Sequence[Sequence[str]]) -> Logits:
        """Of rows given as one list a column, in their order.

        Raises:
            UserError: the model or the tokenizer cannot be read, or ONNX Runtime is not installed.
        """
        rows = self._encoded(texts)
        if self.runtime == "torch":
            return torch_logits(self.folder, rows)
        return onnx_logits(self.folder / _FILES[self.runtime], rows)

    def _encoded(self, texts: Sequence[Sequence[str]]) -> Encoded:
        from kdcore.models.tokenizers import load_tokenizer

        count = len(texts[0])
        split = Split("rows", tuple(map(list, texts)), np.zeros(count, np.int64), np.arange(count, dtype=np.int64))
        return encode(split, load_tokenizer(self.folder), self.longest)


def open_reader(folder: Path, columns: Sequence[str] = (), runtime: Runtime = "auto") -> Reader:
    """The reader of a folder that `kdcore export` wrote, or of another sequence classifier's.

    Args:
        columns: of text, in place of those that the student was trained on.

    Raises:
        UserError: no such folder, no classifier in it, no ONNX file where one is asked for, or columns not known.
    """
    from kdcore.models.sources import read_config

    if not folder.is_dir():
        raise UserError("folder", f"there is no folder {folder}", "name a folder that `kdcore export` wrote")
    config, facts = read_config(folder, "folder"), read_facts(folder)
    known = facts.get("task", {}).get("columns", [])
    chosen = tuple(map(str, columns or known))
    if not chosen:
        raise UserError("--text", "the folder does not say which column holds the text", "name it with --text")
    if known and len(chosen) != len(known):
        raise UserError(
            "--text", f"the student reads {len(known)} columns of text, not {len(chosen)}",
            "name both with --text and --text-pair" if len(known) == 2 else "leave --text-pair out",
        )  # fmt: skip
    if runtime == "auto":
        runtime = _best_runtime(folder)
    if runtime != "torch" and not (folder / _FILES[runtime]).is_file():
        raise UserError(
            "--runtime", f"{folder} has no {_FILES[runtime]}", "export the run with --onnx, or choose --runtime torch"
        )
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    longest = longest_row(folder, int(facts.get("max_length") or 10**9))
    return Reader(folder, chosen, tuple(names) if len(names) > 1 else (), longest, runtime)


def _best_runtime(folder: Path) -> Runtime:
    if (folder / ONNX).is_file():
        return "onnx"
    return "onnx-int8" if (folder / INT8).is_file() and not any(folder.glob("*.safetensors")) else "torch"


def answer_file(reader: Reader, file: Path, target: Path) -> int:
    """Writes the rows of a file, each with its answer, to a new file; returns how many.

    Raises:
        UserError: the file cannot be read or a cell holds no text (line and column are named), or the target exists,
            is of no known format, or cannot be written.
    """
    if target.suffix.lower() not in FORMATS:
        raise UserError("--to", f"{target.name!r} is of no known format", f"end it in {', '.join(FORMATS)}")
    if _exists(target):
        raise UserError("--to", f"{target} exists", "name a new file")
    wanted = () if file.suffix.lower() == ".parquet" else reader.columns  # which would be all that is read of it
    table = read_table(file, "file", wanted)
    texts = [_texts(table, name, file) for name in reader.columns]
    for name in (PREDICTION, PROBABILITY):
        if name in table.columns:
            raise UserError("file", f"{file.name} has a column {name!r} already", "rename it")
    added = answers(reader.classes, reader.logits(texts))
    _write({**table.columns, **added}, target)
    return len(texts[0])


def answers(classes: Sequence[str], logits: Logits) -> dict[str, list[Any]]:
    """Column -> its cells: the class with the largest logit and its probability, or the score.

    >>> answers(["bad", "good"], np.array([[0.0, np.log(3.0)]], np.float32))
    {'prediction': ['good'], 'probability': [0.75]}
    """
    if not classes:
        return {PREDICTION: [_number(value) for value in logits[:, 0]]}
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    share: NDArray[np.float64] = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    best = logits.argmax(axis=1)
    probability = share[np.arange(len(best)), best]
    return {PREDICTION: [classes[i] for i in best], PROBABILITY: [_number(value) for value in probability]}


def _number(value: float) -> float:
    return round(float(value), 6)


def _texts(table: Table, name: str, file: Path) -> list[str]:
    """The cells of a column, all of them text.

    Raises:
        UserError: there is no such column, or a cell is empty, no text, or absurdly long.
    """
    if name not in table.columns:
        there = ", ".join(short(column) for column in list(table.columns)[:20])
        raise UserError(
            "file", f"{file.name} has no column {name!r}", f"it has {there}; choose with --text, --text-pair"
        )
    for row, cell in enumerate(table.columns[name]):
        problem = None
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            problem = "is empty"
        elif not isinstance(cell, str):
            problem = f"is not text but {short(cell)}"
        elif len(cell) > MOST_CHARACTERS:
            problem = f"has {len(cell):,} characters, {MOST_CHARACTERS:,} are read"
        if problem:
            place = f"line {table.lines[row]}" if table.lines else f"row {row + 1}"
            raise UserError("file", f"{place} of {file.name}, column {name!r}, {problem}", "mend or delete the row")
    return [_HALF.sub("\ufffd", cell) for cell in table.columns[name]]


def _exists(target: Path) -> bool:
    try:
        return target.exists()
    except OSError as error:
        raise UserError("--to", f"{target} cannot be opened ({error})", "name a file that can") from error


def _write(columns: Mapping[str, Sequence[Any]], target: Path) -> None:
    """Under another name first, so that a full disk leaves no part of a file."""
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        with partial.open("x", encoding="utf-8", errors="replace", newline="") as out:
            out.writelines(_lines(columns, target.suffix.lower()))
        partial.rename(target)
    except OSError as error:
        raise UserError("--to", f"{target} cannot be written ({error.strerror})", "name a file that can") from error
    finally:
        partial.unlink(missing_ok=True)


def _lines(columns: Mapping[str, Sequence[Any]], ending: str) -> Iterator[str]:
    names, rows = list(columns), zip(*columns.values(), strict=True)
    if ending == ".jsonl":
        yield from (
            json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, default=str) + "\n" for row in rows
        )
        return
    line = io.StringIO()
    writer = csv.writer(line, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")
    for row in (names, *rows):
        line.seek(0)
        line.truncate()
        writer.writerow(
            [json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict | list) else cell for cell in row]
        )
        yield line.getvalue()
