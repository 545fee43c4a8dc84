"""What is on disk in the cache folder, and what of it no run needs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdcore.engine.pins import in_use
from kdcore.engine.run_files import unfinished
from kdcore.paths import cache_dir, cache_subdir
from kdcore.runs.recover import holds_results
from kdcore.store import UNFINISHED, Store

CONTENTS = {
    "runs": "settings, students and logs of runs",
    "teachers": "teachers trained here",
    "outputs": "outputs of frozen teachers",
    "pulled": "folders on their way from KD_REMOTE",
    "data": "prepared data sets",
    "metrics": "working files of the metrics",
    "trackers": "histories of runs for TensorBoard, MLflow or Weights & Biases",
    "searches": "what searches and tunings found",
    "vocabularies": "vocabularies of students, learned from texts",
    "runs.db": "list of runs, their numbers, the queue",
    "runs.db-shm": "working file of the database",
    "runs.db-wal": "working file of the database",
}
"""Name in the cache folder -> what it holds."""
_YOUNG = 3600.0  # a folder this new may belong to a run that is just being added


@dataclass(frozen=True)
class CacheEntry:
    """A file or folder right under the cache folder. size: bytes on disk. contents: what it holds, for people."""

    name: str
    entries: int
    size: int
    contents: str


@dataclass(frozen=True)
class Garbage:
    """A folder that no run needs. reason: which one it is and why, for people. size: bytes on disk."""

    path: Path
    reason: str
    size: int


def cache_entries() -> list[CacheEntry]:
    """What is in the cache folder, by name."""
    return [
        CacheEntry(
            path.name,
            sum(1 for _ in path.iterdir()) if path.is_dir() else 1,
            disk_usage(path),
            CONTENTS.get(path.name, ""),
        )
        for path in sorted(cache_dir().iterdir())
    ]


def remove(garbage: Iterable[Garbage]) -> int:
    """Deletes it; returns the bytes freed."""
    freed = 0
    for item in garbage:
        if item.path.is_dir():
            shutil.rmtree(item.path, ignore_errors=True)
        else:
            item.path.unlink(missing_ok=True)
        freed += item.size
    return freed


def free_outputs(limit: int = 0) -> int:
    """Drops teacher outputs, least recently used first, until they take `limit` bytes; returns the bytes freed.

    What a living process reads stays.
    """
    from kdcore.engine import teacher_cache

    before = teacher_cache.bytes_in_use()
    teacher_cache.make_room(max(0, teacher_cache.budget() - limit), set())
    return before - teacher_cache.bytes_in_use()


def find_garbage(store: Store, unlisted: bool = False) -> Iterator[Garbage]:
    """What no run needs: empty folders without a run, checkpoints of runs that are done, what killed processes left.

    unlisted: folders with students of runs that are not listed, too. Never follows a link.
    """
    frame = store.runs(include_archived=True)
    states = dict(zip(frame.id, frame.state, strict=True))
    for folder in sorted(cache_subdir("runs").iterdir()):
        if folder.is_symlink() or not folder.is_dir():
            continue
        if folder.name.startswith(".import-"):
            if _old(folder):
                yield Garbage(folder, f"runs/{folder.name}: an import that was killed", disk_usage(folder))
            continue
        if folder.name not in states:
            if _old(folder) and (unlisted or not holds_results(folder)):
                yield Garbage(folder, f"runs/{folder.name}: no such run is listed", disk_usage(folder))
            continue
        if states[folder.name] not in UNFINISHED:
            yield from _partial(folder)
        if states[folder.name] == "done" and (folder / "checkpoint").is_dir():
            yield Garbage(folder / "checkpoint", f"checkpoint of {folder.name}", disk_usage(folder / "checkpoint"))
    for path in sorted(cache_subdir("teachers").glob("*.work/.student-*.writing")):
        if _old(path):
            yield Garbage(path, f"{path.name} of {path.parent.name}: never completed", disk_usage(path))
    for path in sorted((cache_dir() / "pulled").glob("*")):
        if all(map(_old, (path, *path.rglob("*")))):  # what is on its way for hours is not left over
            yield Garbage(path, f"pulled/{path.name}: never completed", disk_usage(path))
    for pin in sorted(cache_subdir("outputs").glob("*/pin-*")):
        if _old(pin) and not in_use(pin):
            yield Garbage(pin, f"outputs/{pin.parent.name}/{pin.name} of a process that ended", disk_usage(pin))


def _partial(folder: Path) -> Iterator[Garbage]:
    """Students and checkpoints of an ended run that were never completed. An old student stays where it is the only."""
    for path in unfinished(folder):
        if _old(path):
            yield Garbage(path, f"{path.name} of {folder.name}: never completed", disk_usage(path))
    for path in sorted(folder.glob(".student-*.old")):
        if _old(path) and (folder / path.name.split(".")[1]).is_dir():
            yield Garbage(path, f"{path.name} of {folder.name}: replaced", disk_usage(path))


def _old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _YOUNG
    except FileNotFoundError:  # another process has just completed or removed it
        return False


def disk_usage(path: Path) -> int:
    """Bytes on disk; links are not followed and a hard-linked file counts once."""
    seen: dict[tuple[int, int], int] = {}
    for file in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
        try:
            stat = file.lstat()
        except OSError:
            continue
        if not file.is_dir():
            seen[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(seen.values())
