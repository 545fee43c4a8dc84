"""The pocket suite: six generated, GLUE-shaped tasks that need no network. Synthetic, and labelled so on every page.

Rows are made once and kept as one parquet file a task; a file that is damaged or of another recipe is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from kdcore import paths
from kdcore.data.pocket import suite
from kdcore.data.pocket.topics import topic, topics
from kdcore.data.splits import Split, TaskData, fingerprint, make_split, with_domains
from kdcore.tasks import POCKET, Task

SOURCE = "generated here (synthetic)"


def load(task: Task) -> TaskData:
    """The rows of a pocket task, with the vocabulary they all share. About a second on first use, then milliseconds."""
    path = _path(task)
    data = _read(task, path)
    if data is None:
        splits, vocabulary = suite.generate_all()
        for key, made in splits.items():
            _write(POCKET[key], made, vocabulary)
        data = TaskData(task, splits[task.key], fingerprint(task, splits[task.key]), SOURCE, None, vocabulary)
    sources = [topic(task.key, texts) for texts in zip(*data.train.texts, strict=True)]
    return with_domains(data, topics(task.key), sources)


def _path(task: Task) -> Path:
    return paths.cache_subdir("data") / f"{task.key}-{_recipe()}.parquet"


@cache
def _recipe() -> str:
    """Changes with the code that makes the rows, so that an older file is never taken for a newer one."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def _write(task: Task, splits: dict[str, Split], vocabulary: tuple[str, ...]) -> None:
    names = [name for name, split in splits.items() for _ in range(len(split))]
    columns = {
        column: [text for split in splits.values() for text in split.texts[i]] for i, column in enumerate(task.columns)
    }
    labels = [label for split in splits.values() for label in split.labels.tolist()]
    table = pa.table({"split": names, **columns, "label": labels})
    about = {"fingerprint": fingerprint(task, splits), "vocabulary": json.dumps(vocabulary)}
    path = _path(task)
    unfinished = path.with_suffix(f".{uuid4().hex}.tmp")
    pq.write_table(table.replace_schema_metadata(about), unfinished)
    os.replace(unfinished, path)


def _read(task: Task, path: Path) -> TaskData | None:
    """What the file holds, or None where it is absent, damaged or not what was written."""
    try:
        table = pq.read_table(path)
        about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        splits = {name: _split(task, name, table) for name in suite.ROWS}
        vocabulary = tuple(json.loads(about["vocabulary"]))
        digest = fingerprint(task, splits)
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException):
        return None
    return TaskData(task, splits, digest, SOURCE, None, vocabulary) if digest == about["fingerprint"] else None


def _split(task: Task, name: str, table: pa.Table) -> Split:
    rows = table.filter(pa.compute.equal(table["split"], name))
    texts = tuple(rows[column].to_pylist() for column in task.columns)
    return make_split(task, name, texts, rows["label"].to_numpy())
