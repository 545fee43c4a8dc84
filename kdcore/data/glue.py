"""GLUE: the folder in KD_GLUE_DIR first, then the local Hugging Face cache. The hub only when `download` is called.

A folder holds one sub-folder a task (`sst2` or `SST-2`), with `<split>.parquet` or the official `train.tsv`, `dev.tsv`.
Columns and label order are those of the hub's `nyu-mll/glue`.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kdcore.data.splits import Split, TaskData, fingerprint, make_split, with_domains
from kdcore.errors import UserError
from kdcore.paths import user_path
from kdcore.tasks import GLUE, Task

HUB_ID = "nyu-mll/glue"

DEV_ROWS: dict[str, dict[str, int]] = {
    "cola": {"validation": 1043},
    "sst2": {"validation": 872},
    "mrpc": {"validation": 408},
    "stsb": {"validation": 1500},
    "qqp": {"validation": 40430},
    "mnli": {"validation_matched": 9815, "validation_mismatched": 9832},
    "qnli": {"validation": 5463},
    "rte": {"validation": 277},
    "wnli": {"validation": 71},
}
"""Rows of the official dev splits; those of the training splits stand in the task table."""


@dataclass(frozen=True)
class _Tsv:
    """Where the official TSV keeps texts and label: by column name, or by number where the file has no header.

    domain: name of the column with a row's domain.
    """

    texts: tuple[str | int, ...]
    label: str | int
    names: dict[str, int] | None = None
    domain: str | None = None


_ENTAILMENT = {"entailment": 0, "not_entailment": 1}
_TSV: dict[str, _Tsv] = {
    "cola": _Tsv((3,), 1),
    "sst2": _Tsv(("sentence",), "label"),
    "mrpc": _Tsv(("#1 String", "#2 String"), "Quality"),
    "stsb": _Tsv(("sentence1", "sentence2"), "score"),
    "qqp": _Tsv(("question1", "question2"), "is_duplicate"),
    "mnli": _Tsv(
        ("sentence1", "sentence2"), "gold_label", {"entailment": 0, "neutral": 1, "contradiction": 2}, "genre"
    ),
    "qnli": _Tsv(("question", "sentence"), "label", _ENTAILMENT),
    "rte": _Tsv(("sentence1", "sentence2"), "label", _ENTAILMENT),
    "wnli": _Tsv(("sentence1", "sentence2"), "label"),
}

_TSV_FILE = {
    "train": "train.tsv",
    "validation": "dev.tsv",
    "validation_matched": "dev_matched.tsv",
    "validation_mismatched": "dev_mismatched.tsv",
}

Rows = tuple[tuple[list[str], ...], NDArray[np.generic], list[str] | None]
"""Texts, labels, and the domain of each row where the file says it."""


@dataclass(frozen=True)
class GlueFiles:
    """The files of a task: one a split, and where they are, in words."""

    files: dict[str, Path]
    words: str


def find(task: Task) -> GlueFiles | None:
    """The first place that has every split of `task`. Looks at file names only: fast, no network."""
    names = ("train", *task.splits)
    for words, place in _places(task):
        files = {name: path for name in names if (path := place(name)) is not None}
        if len(files) == len(names):
            return GlueFiles(files, words)
    return None


def remedy(task: Task) -> str:
    """What a person does to get an absent task."""
    return (
        f"set KD_GLUE_DIR to a folder with {task.key}/train.parquet or the official {_official(task)}/train.tsv, "
        f"or download it from the Hugging Face hub"
    )


def load(task: Task) -> TaskData:
    """Read `task`.

    Raises:
        UserError: it is in none of the places, or a file cannot be read.
    """
    source = find(task)
    if source is None:
        raise UserError("task", f"{task.title} is not on this machine", remedy(task))
    read = {name: _split(task, name, path) for name, path in source.files.items()}
    splits = {name: split for name, (split, _) in read.items()}
    data = TaskData(task, splits, fingerprint(task, splits), source.words, partial(task, splits))
    if (domains := read["train"][1]) is None:
        return data
    names = sorted(set(domains))
    return with_domains(data, names, [names.index(name) for name in domains])


def partial(task: Task, splits: dict[str, Split]) -> str | None:
    """Which splits have fewer rows than GLUE's own, in words; None where all are whole."""
    official = {"train": task.train_rows, **DEV_ROWS[task.key]}
    short = [
        f"{name} {len(splits[name]):,} of {rows:,}" for name, rows in official.items() if len(splits[name]) != rows
    ]
    return f"not the official rows: {', '.join(short)}" if short else None


def download(key: str, timeout: float = 120.0) -> None:
    """Fetch one task's parquet files from the hub into the local Hugging Face cache, on a person's word.

    Runs in a process of its own with `timeout` seconds: the hub's client takes long to notice that there is no network.

    Raises:
        UserError: unknown task, no connection, too slow, or the hub refused.
    """
    if key not in GLUE:
        raise UserError("task", f"no GLUE task {key[:60]!r}", f"choose one of {', '.join(GLUE)}")
    code = (
        "import sys; from huggingface_hub import snapshot_download; "
        "snapshot_download(sys.argv[1], repo_type='dataset', allow_patterns=[sys.argv[2] + '/*.parquet'])"
    )
    place = f"put the files into KD_GLUE_DIR/{key}, or try again where the hub can be reached"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, HUB_ID, key], capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError("task", f"the hub did not give {key} within {timeout:g} seconds", place) from None
    if done.returncode:
        message = (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise UserError("task", f"the hub did not give {key}: {message}", place)


def _official(task: Task) -> str:
    return {"sst2": "SST-2", "stsb": "STS-B"}.get(task.key, task.title)


def _places(task: Task) -> Iterator[tuple[str, Callable[[str], Path | None]]]:
    chosen = os.environ.get("KD_GLUE_DIR")
    if chosen:
        folders = _task_folders(user_path(chosen, "KD_GLUE_DIR"), task)
        yield "KD_GLUE_DIR", lambda name: _first(_in_folder(folders, name))
    hub, arrow = _hub_folders(task), _arrow_folders(task)
    yield "the local Hugging Face cache", lambda name: _first(p for f in hub for p in f.glob(f"{name}-*.parquet"))
    yield "the local Hugging Face cache", lambda name: _first(p for f in arrow for p in f.glob(f"glue-{name}.arrow"))


def _in_folder(folders: list[Path], name: str) -> Iterator[Path]:
    for folder in folders:
        for file in (f"{name}.parquet", f"{name}-00000-of-00001.parquet", _TSV_FILE[name]):
            if (folder / file).is_file():
                yield folder / file


def _task_folders(root: Path, task: Task) -> list[Path]:
    """Sub-folders named after the task, whatever their case and dashes."""
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if p.is_dir() and p.name.lower().replace("-", "") == task.key)


def _hub_folders(task: Task) -> list[Path]:
    base = os.environ.get("HF_HUB_CACHE") or str(_hf_home() / "hub")
    snapshots = Path(base).expanduser() / f"datasets--{HUB_ID.replace('/', '--')}" / "snapshots"
    return sorted(snapshots.glob(f"*/{task.key}"))


def _arrow_folders(task: Task) -> list[Path]:
    base = Path(os.environ.get("HF_DATASETS_CACHE") or str(_hf_home() / "datasets")).expanduser()
    names = (HUB_ID.replace("/", "___"), "glue")
    return sorted(folder for name in names for folder in base.glob(f"{name}/{task.key}/*/*") if folder.is_dir())


def _hf_home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser()


def _first(paths: Iterator[Path]) -> Path | None:
    return next(paths, None)


def _split(task: Task, name: str, path: Path) -> tuple[Split, list[str] | None]:
    """A split, and the domain of each of its rows where the file says it."""
    try:
        texts, labels, domains = _read_tsv(task, path) if path.suffix == ".tsv" else _read_table(task, path)
    except UserError:
        raise
    except Exception as error:
        raise UserError("task", f"{path} cannot be read ({error})", "replace the file") from error
    if not len(labels):
        raise UserError("task", f"{path} has no rows", "replace the file")
    if task.kind == "classification" and not set(np.unique(labels)) <= set(range(task.outputs)):
        raise UserError("task", f"{path} has labels outside 0..{task.outputs - 1}", "replace it; test splits have none")
    if not np.all(np.isfinite(labels)):
        raise UserError("task", f"{path} has scores that are not numbers", "replace the file")
    return make_split(task, name, texts, labels), domains


def _read_table(task: Task, path: Path) -> Rows:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
    else:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_stream(source).read_all()
    missing = [column for column in (*task.columns, "label") if column not in table.column_names]
    if missing:
        raise UserError("task", f"{path} lacks {missing}, it has {table.column_names}", "give GLUE's own columns")
    texts = tuple([text or "" for text in table[column].to_pylist()] for column in task.columns)
    domain = _TSV[task.key].domain
    domains = table[domain].to_pylist() if domain in table.column_names else None
    return texts, table["label"].to_numpy(), domains


def _read_tsv(task: Task, path: Path) -> Rows:
    """The official files: tab-separated, quotation marks are text; QQP's few broken lines have no label and go."""
    layout = _TSV[task.key]
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(_whole_lines(file), delimiter="\t", quoting=csv.QUOTE_NONE)
        wanted: list[str | int] = [*layout.texts, layout.label]
        if isinstance(layout.label, str):
            header = next(lines, [])
            missing = [column for column in wanted if column not in header]
            if missing:
                raise UserError("task", f"{path} lacks {missing}, it has {header}", "give the official TSV file")
            wanted += [layout.domain] if layout.domain in header else []
            columns = [header.index(str(column)) for column in wanted]
        else:
            columns = [int(column) for column in wanted]
        rows = [[line[i] for i in columns] for line in lines if len(line) > max(columns)]
    texts = tuple([row[i] for row in rows] for i in range(len(layout.texts)))
    labels = [row[len(texts)] for row in rows]
    domains = [row[-1] for row in rows] if len(wanted) > len(texts) + 1 else None
    if layout.names is not None:
        return texts, np.array([layout.names[label] for label in labels]), domains
    return texts, np.array(labels, dtype=np.float32 if task.kind == "regression" else np.int64), domains


def _whole_lines(file: Iterator[str]) -> Iterator[str]:
    csv.field_size_limit(2**31 - 1)
    return (line.replace("\0", "") for line in file)
