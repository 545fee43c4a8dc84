"""Runs whose folders are here and that no list names, after the database was moved or lost: listed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.events import Evaluated, Event, Probed
from kdcore.paths import cache_subdir, checked_id
from kdcore.tasks import TASKS

if TYPE_CHECKING:
    from kdcore.store import Store

_LARGEST = 16 * 2**20
_RESULTS = ("student-best", "student-last", "checkpoint")
_REASON = "listed anew from its folder; its logged points were in another database"


def unlisted_folders(store: Store) -> list[Path]:
    """Run folders with settings and a student or checkpoint that this store does not list. Links are passed over."""
    listed = set(store.runs(include_archived=True)["id"])
    folders = (folder for folder in sorted(cache_subdir("runs").iterdir()) if folder.name not in listed)
    return [folder for folder in folders if not folder.is_symlink() and holds_results(folder)]


def holds_results(folder: Path) -> bool:
    """Whether a run's folder holds what a training took time for."""
    return any((folder / name).is_dir() for name in _RESULTS)


def recover(store: Store) -> tuple[list[str], list[str]]:
    """Lists the runs of `unlisted_folders` again, under their old ids.

    A run whose student is complete is done and keeps the scores that follow from its predictions; others are
    interrupted and resume from their checkpoint.

    Returns:
        Ids that are listed now; and a sentence on each folder whose settings cannot be read.
    """
    from kdcore.store.transfer import put_in

    listed, refused = [], []
    for folder in unlisted_folders(store):
        try:
            run = _carried(folder)
        except (OSError, ValueError, UserError) as error:
            refused.append(f"{folder.name}: its settings cannot be read ({str(error).splitlines()[0][:120]})")
            continue
        points: dict[str, list[dict[str, Any]]] = {}
        run_id = put_in(store, run, points, folder.name)
        if run_id != folder.name:  # listed by another process meanwhile
            store.delete(run_id)
            continue
        store.record(run_id, list(_results(folder, run.config)))
        listed.append(run_id)
    return listed, refused


def _carried(folder: Path) -> Any:
    from kdcore.store.transfer import Carried

    checked_id(folder.name, "run")
    path = folder / "config.json"
    if path.stat().st_size > _LARGEST:
        raise ValueError("config.json is too large")
    try:
        config = RunConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None
    done = (folder / "student-last").is_dir() and not (folder / "checkpoint").is_dir()
    moment = path.stat().st_mtime
    return Carried(
        id=folder.name, name=config.name, state="done" if done else "interrupted", config=config, created=moment,
        started=moment, finished=moment, reason=_REASON, remedy="" if done else "resume it",
    )  # fmt: skip


def _results(folder: Path, run: RunConfig) -> Iterator[Event]:
    """Scores of the kept predictions, and probes."""
    from kdcore.engine.evaluate import scores
    from kdcore.engine.run_files import predictions

    if run.task in TASKS:
        try:
            for (split, model), arrays in predictions(folder).items():
                which = "best" if model == "student" else f"teacher:{model}"
                values = scores(TASKS[run.task], arrays["logits"], arrays["labels"])
                yield Evaluated("end", 0, split, which, values, len(arrays["labels"]))
        except (UserError, ValueError):  # damaged: the run is listed without scores
            pass
    for path in sorted((folder / "probes").glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _LARGEST else None
        except (OSError, ValueError):
            continue
        if isinstance(data, dict):
            yield Probed(path.stem, 0, data)
