"""The example study that comes with the program: finished pocket runs and their teachers, so that no page is empty.

`kdcore/example_study/` holds `runs.zip` (a bundle), `teachers/` (as `cache/teachers/` holds them) and `about.json`
(what recorded it: version, machine, date, runs). `python -m bench.record_example` makes it anew.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore.bundle import export_runs, import_runs
from kdcore.paths import room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcore.store import Store

FOLDER = Path(__file__).parent / "example_study"
TAG = "example"


def about() -> dict[str, Any]:
    """What recorded the study: `kdcore`, `hardware`, `recorded` (date), `compared` (ids that share a protocol)."""
    said: dict[str, Any] = json.loads((FOLDER / "about.json").read_text())
    return said


def opened(store: Store) -> list[str]:
    """The runs to compare that are in this store already."""
    here = set(store.runs(include_archived=True)["id"])
    return [run for run in about()["compared"] if run in here]


def open_study(store: Store) -> list[str]:
    """Puts the study into the store and its teachers into the cache, where they are not yet; returns what to compare.

    Raises:
        UserError: the disk is full. CorruptError: the study is damaged.
    """
    ids = import_runs(store, FOLDER / "runs.zip")
    for folder in sorted((FOLDER / "teachers").iterdir()):
        _copy_once(folder, room("teachers") / folder.name)
    return [ids[run] for run in about()["compared"]]


def _copy_once(source: Path, target: Path) -> None:
    if target.exists():
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.copytree(source, partial, dirs_exist_ok=True)
    try:
        partial.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(partial)


def record(store: Store, runs: Sequence[str], compared: Sequence[str], facts: dict[str, Any]) -> None:
    """Makes these finished runs, with all teachers of this cache, the study that comes with the program."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    export_runs(store, runs, FOLDER / "runs.zip")
    for folder in sorted(room("teachers").iterdir()):
        if folder.is_dir():
            shutil.copytree(folder, FOLDER / "teachers" / folder.name)
    (FOLDER / "about.json").write_text(json.dumps({**facts, "compared": list(compared)}, indent=1) + "\n")
