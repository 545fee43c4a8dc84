"""Commands on what the program keeps on disk: `cache list`, `cache gc`."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psutil
import typer

from kdcore.cli.console import new_app, table
from kdcore.errors import UserError
from kdcore.paths import cache_dir, cache_subdir
from kdcore.runs.recover import holds_results
from kdcore.runs.recover import unlisted as recoverable

if TYPE_CHECKING:
    from kdcore.store import Store

_WORDS = {
    "runs": "settings, students and logs of runs",
    "teachers": "teachers trained here",
    "outputs": "what frozen teachers said",
    "data": "prepared data sets",
    "metrics": "working files of the scores",
    "runs.db": "list of runs, their numbers, the queue",
    "runs.db-shm": "working file of the database",
    "runs.db-wal": "working file of the database",
}
_YOUNG = 3600.0  # a folder this new may belong to a run that is just being added


@dataclass(frozen=True)
class Kept:
    """One folder of the cache. size: bytes on disk."""

    name: str
    entries: int
    size: int
    words: str


@dataclass(frozen=True)
class Garbage:
    path: Path
    words: str
    size: int


def register(app: typer.Typer) -> None:
    cache = new_app("What the program keeps on disk.")
    cache.command("list")(list_)
    cache.command("gc")(gc)
    app.add_typer(cache, name="cache")


def list_() -> None:
    """List the folders of the cache with their sizes."""
    rows = ((one.name, one.entries, f"{one.size / 2**20:.1f}", one.words) for one in folders())
    table(str(cache_dir()), ("name", "entries", "MiB", "what"), rows)


def folders() -> list[Kept]:
    """What stands in the cache folder, by name."""
    return [
        Kept(
            path.name,
            sum(1 for _ in path.iterdir()) if path.is_dir() else 1,
            size_of(path),
            _WORDS.get(path.name, ""),
        )
        for path in sorted(cache_dir().iterdir())
    ]


def gc(
    limit_gb: Annotated[float | None, typer.Option(min=0, help="Teacher outputs may keep so much.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    unlisted: Annotated[bool, typer.Option("--unlisted", help="Students that no run lists, too.")] = False,
) -> None:
    """Remove what no run needs: checkpoints of finished runs, folders of deleted ones, old teacher outputs."""
    from kdcore.store import open_store

    if limit_gb is not None and not math.isfinite(limit_gb):
        raise UserError("--limit-gb", f"{limit_gb} is not a size", "give gigabytes, such as 4")
    store = open_store()
    spared = recoverable(store)
    found = list(garbage(store, unlisted))
    if spared and not unlisted:
        typer.echo(
            f"keeping {len(spared)} run folders with students or checkpoints that this database does not list "
            f"({', '.join(folder.name for folder in spared[:5])}); `kdcore runs --recover` lists them again, "
            "`kdcore cache gc --unlisted` removes them"
        )
    for item in found:
        typer.echo(f"{'would remove' if dry_run else 'removing'} {item.words} ({item.size / 2**20:.1f} MiB)")
    freed = sum(item.size for item in found) if dry_run else remove(found)
    if limit_gb is not None and not dry_run:
        freed += free_outputs(int(limit_gb * 2**30))
    typer.echo(f"{'would free' if dry_run else 'freed'} {freed / 2**20:.1f} MiB")


def remove(found: Iterable[Garbage]) -> int:
    """Deletes them; returns the bytes."""
    freed = 0
    for item in found:
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

    before = teacher_cache.used()
    teacher_cache.make_room(max(0, teacher_cache.budget() - limit), set())
    return before - teacher_cache.used()


def garbage(store: Store, unlisted: bool = False) -> Iterator[Garbage]:
    """What no run needs: empty folders without a run, checkpoints of runs that are done, what killed processes left.

    unlisted: folders with students of runs that are not listed, too. Never follows a link.
    """
    from kdcore.store import UNFINISHED

    frame = store.runs(include_archived=True)
    states = dict(zip(frame.id, frame.state, strict=True))
    for folder in sorted(cache_subdir("runs").iterdir()):
        if folder.is_symlink() or not folder.is_dir():
            continue
        if folder.name not in states:
            if _old(folder) and (unlisted or not holds_results(folder)):
                yield Garbage(folder, f"runs/{folder.name}: no such run is listed", size_of(folder))
            continue
        if states[folder.name] not in UNFINISHED:
            yield from _partial(folder)
        if states[folder.name] == "done" and (folder / "checkpoint").is_dir():
            yield Garbage(folder / "checkpoint", f"checkpoint of {folder.name}", size_of(folder / "checkpoint"))

    for pin in sorted(cache_subdir("outputs").glob("*/pin-*")):
        pid = pin.name.split("-")[1]
        if _old(pin) and not (pid.isdigit() and psutil.pid_exists(int(pid))):
            yield Garbage(pin, f"outputs/{pin.parent.name}/{pin.name} of a process that ended", size_of(pin))


def _partial(folder: Path) -> Iterator[Garbage]:
    """Students and checkpoints of an ended run that were never completed. An old student stays where it is the only."""
    for path in sorted([*folder.glob(".student-*.writing"), *folder.glob("checkpoint/*.partial")]):
        if _old(path):
            yield Garbage(path, f"{path.name} of {folder.name}: never completed", size_of(path))
    for path in sorted(folder.glob(".student-*.old")):
        if _old(path) and (folder / path.name.split(".")[1]).is_dir():
            yield Garbage(path, f"{path.name} of {folder.name}: replaced", size_of(path))


def _old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > _YOUNG


def size_of(path: Path) -> int:
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
