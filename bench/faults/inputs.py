"""Bad tables and settings before a start: who says what is wrong, who trains on, who breaks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import BertConfig, BertModel, BertTokenizerFast
from typer.testing import CliRunner

from bench.faults.workers import cache
from kdcore.cli import app
from kdcore.paths import cache_dir

ROWS = 400
"""So many that a good table gets no warning."""
NUMBER = "9" * 5000
SETTINGS = (
    "train.lr=nan", "train.lr=-1", "train.lr=1e400", "train.epochs=0", "train.epochs=inf", "train.batch_size=0",
    "train.batch_size=1e9", "train.max_length=1", "train.max_length=100000", "train.seed=-1", f"train.seed={NUMBER}",
    "train.seed=2020-99-99", "train.accumulate=3", "train.warmup=2", "train.precision=fp8", "train.device=tpu",
    "train.threads=-4", "student.width=33", "student.layers=0", "student.heads=7", "student.init=magic",
    "student.layers=10000000", "name=" + "x" * 300, "nonsense=1", "train.nonsense=1", "train=1", "student=[1]",
    "own.path=/dev/zero", "own.path=/nowhere.csv", "own.path=~nosuch/a.csv", "own.label=nowhere", "own.text=nowhere",
    "own.text=label", "probes.latency=maybe", "train.select_fraction=1.5", "train.max_steps=-3", "task=nonsense",
    "method=nonsense", "train.weight_decay=.inf", "train.clip=-1",
)  # fmt: skip


def inputs() -> dict[str, Any]:
    """Each is tried as `distil --dry-run`. Named: an error, a block or a warning says so. Silent: "ok" and no more."""
    answers, worst = Counter[str](), []
    with cache():
        folder = cache_dir() / "tables"
        folder.mkdir()
        base = _base(cache_dir() / "base")
        good = _write(folder / "good.csv", "text,label\n" + "".join(f"{words},{label}\n" for words, label in _rows()))
        trials = [(f"set {value[:40]}", good, [value]) for value in SETTINGS]
        trials += [(path.name, path, []) for path in _tables(folder)]
        for name, path, settings in trials:
            answer = _try(base, path, settings)
            answers[answer] += 1
            if answer in ("silent", "traceback"):
                worst.append(f"{answer}: {name}")
        control = _try(base, good, [])
    return {"tried": len(trials), **dict(answers), "which": worst, "a_good_table": control}


def _try(base: Path, path: Path, settings: list[str]) -> str:
    arguments = ["distil", "--task", "own", "--method", "kd", "--layers", "1", "--width", "32", "--heads", "2"]
    arguments += ["--teacher", f"base=folder:{base}", "--init", "random", "--dry-run", "--set", f"own.path={path}"]
    for value in ("own.text=text", "own.label=label", *settings):
        arguments += ["--set", value]
    outcome = CliRunner().invoke(app, arguments)
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        return "traceback"
    if re.search(r"^error: |^\[(block|warn)\]", outcome.output, re.MULTILINE):
        return "named"
    return "silent"


def _base(folder: Path) -> Path:
    """A small BERT without pretraining, whose vocabulary holds the words of the good table."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*marks, *sorted({word for words, _ in _rows() for word in words.split()})]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    return folder


def _rows() -> Iterator[tuple[str, str]]:
    for number in range(ROWS):
        yield (f"a good film number {number}", "pos") if number % 2 else (f"a poor film number {number}", "neg")


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def _tables(folder: Path) -> Iterator[Path]:
    rows = list(_rows())
    lines = [f"{words},{label}" for words, label in rows]
    csv: dict[str, str | bytes] = {
        "empty": "", "header alone": "text,label\n", "one row": "text,label\na,b\n", "zeros": b"\x00" * 500,
        "binary": bytes(range(256)) * 20, "one class": "text,label\n" + "".join(f"{w},pos\n" for w, _ in rows),
        "an empty label": _csv([*lines[:9], "no label,", *lines[9:]]),
        "an empty text": _csv([*lines[:9], ",pos", *lines[9:]]),
        "a lone -1": _csv([*lines[:9], "no answer,-1", *lines[9:]]),
        "ragged": _csv([*lines[:9], "one,two,three,four", *lines[9:]]),
        "an open quote": _csv([*lines[:9], '"never closed,pos', *lines[9:]]),
        "all rows twice": _csv([*lines, *lines]), "opposite labels": _csv([*lines, "a good film number 1,neg"]),
        "a rare class": _csv([*lines, "a film,odd"]),
        "classes by row": _csv([f"{w},{n}" for n, (w, _) in enumerate(rows)]),
        "scores with fractions": _csv([f"{w},{n / 7}" for n, (w, _) in enumerate(rows)]),
        "a tag per row": _csv([f"{w},['{y}']" for w, y in rows]),
        "two header names alike": "text,text,label\n" + "\n".join(f"{w},{w},{y}" for w, y in rows),
        "long texts": _csv([f"{w} {'very ' * 800},{y}" for w, y in rows]),
        "utf-16": ("text,label\n" + "\n".join(lines)).encode("utf-16"),
        "latin-1": _csv([*lines, "caf\u00e9,pos"]).encode("latin-1"),
        "no header": "\n".join(lines), "git lfs": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "html": "<html><body>404</body></html>", "near equal labels": _csv([*lines, "a film,poss", "b film,poss"]),
    }  # fmt: skip
    for name, content in csv.items():
        yield _write(folder / f"{name}.csv", content)
    label: dict[str, Any] = {
        "a list": ["pos"],
        "an object": {"name": "pos"},
        "missing": None,
        "not a number": float("nan"),
    }
    for name, value in label.items():
        odd = [{"text": words, "label": value if n == 5 else y} for n, (words, y) in enumerate(rows)]
        yield _write(folder / f"{name}.jsonl", "\n".join(map(json.dumps, odd)))
    good = [json.dumps({"text": words, "label": y}) for words, y in rows]
    jsonl = {
        "half a row": [*good, '{"text": "a"'], "a row is a list": [*good, "[1, 2]"],
        "another key": [*good, '{"words": "a"}'],
        "a text is a number": [*good, '{"text": 5, "label": "pos"}'], "deep": [*good, "[" * 20000],
        "a number of 5,000 digits": [*good, f'{{"text": "a", "label": {NUMBER}}}'],
        "half an emoji": [*good, '{"text": "so good \\ud83d", "label": "pos"}'],
    }  # fmt: skip
    for name, odd_lines in jsonl.items():
        yield _write(folder / f"{name}.jsonl", "\n".join(odd_lines))
    for name in ("table.pickle", "table.xlsx", "table.parquet", "table.zip"):
        yield _write(folder / name, b"PK\x03\x04 or something else")


def _csv(lines: list[str]) -> str:
    return "text,label\n" + "\n".join(lines) + "\n"
