"""The example study that comes with the program: finished pocket runs and their teachers, so that no page is empty.

`kdcore/runs/example_study/` holds `runs.zip` (a bundle), `teachers/` (as `cache/teachers/` holds them) and `about.json`
(what recorded it: version, machine, date, runs). `python -m bench.record_example` makes it anew.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore.engine.run_files import teacher_folders
from kdcore.errors import UserError
from kdcore.paths import cache_subdir, run_dir
from kdcore.runs.bundle import export_runs, import_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcore.store import Store

FOLDER = Path(__file__).parent / "example_study"
TAG = "example"


def about() -> dict[str, Any]:
    """What recorded the study (`kdcore`, `hardware`, `cores`, `recorded`: the date) and what is in it.

    compared: ids of the runs that share a protocol. teachers: task -> name -> folder below `teachers/`.
    """
    facts: dict[str, Any] = json.loads((FOLDER / "about.json").read_text())
    return facts


def example_runs(store: Store) -> list[str]:
    """The runs to compare that are in this store already."""
    ids: list[str] = about()["compared"]
    return [run for run in ids if _is_here(store, run)]


def _is_here(store: Store, run: str) -> bool:
    try:
        store.get(run)
    except UserError:
        return False
    return True


def open_study(store: Store) -> list[str]:
    """Puts the study into the store and its teachers into the cache, where they are not yet; returns what to compare.

    Raises:
        UserError: the disk is full. CorruptError: the study is damaged.
    """
    study = about()
    ids = import_runs(store, FOLDER / "runs.zip")
    for run in ids.values():
        config, folders = store.get(run).config, {}
        for spec in config.teachers:
            home = cache_subdir("teachers") / study["teachers"][config.task][spec.name]
            _copy_once(FOLDER / "teachers" / home.name, home)
            folders[spec.name] = str(home)
        (run_dir(run) / "teachers.json").write_text(json.dumps(folders))
    return [ids[run] for run in study["compared"]]


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
    """Makes these finished runs, with their teachers, the study that comes with the program."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    export_runs(store, runs, FOLDER / "runs.zip")
    homes: dict[str, dict[str, str]] = {}
    for run in runs:
        for name, home in teacher_folders(run_dir(run)).items():
            homes.setdefault(store.get(run).task, {})[name] = home.name
            shutil.copytree(home, FOLDER / "teachers" / home.name, dirs_exist_ok=True)
    contents = {**facts, "compared": list(compared), "teachers": homes}
    (FOLDER / "about.json").write_text(json.dumps(contents, indent=1) + "\n")
