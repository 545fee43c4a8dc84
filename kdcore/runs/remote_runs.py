"""Run folders between computers without a common disk: pushed at each checkpoint and at the end, taken up elsewhere."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection

from filelock import FileLock

from kdcore.errors import UserError
from kdcore.paths import cache_subdir, run_dir
from kdcore.remote import FIELD, RemoteError, files_of, open_remote

log = logging.getLogger("kdcore.runs.remote_runs")


def fetch_run(run_id: str) -> bool:
    """Makes the run's folder here the one that was pushed, where that is further; whether it was.

    Raises:
        RemoteError: it cannot be read. The folder here is as it was.
    """
    remote, folder = open_remote(), run_dir(run_id)
    if remote is None:
        return False
    with FileLock(cache_subdir("pulled") / f"{run_id}.lock"):  # two workers may need the student of one run
        there, here = remote.files(_name(run_id)), files_of(folder)
        if there is None or (here and _reached(there) <= _reached(here)):
            return False
        with remote.pulled(_name(run_id)) as got:
            if got is None:
                return False
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(got, folder)
    return True


def push_run(run_id: str, before_naming: Callable[[], None] = lambda: None) -> None:
    """Pushes the run's folder as it is now. before_naming: may raise, and nothing has changed there.

    Raises:
        RemoteError: there is no room, or no connection. What was pushed before is there as it was.
    """
    remote, files = open_remote(), files_of(run_dir(run_id))
    if remote is None:
        raise RemoteError(FIELD, "is not set", "set it to an address such as file:///shared/kdboard")
    if not files:
        raise UserError("run", f"there is no folder of {run_id} here", "push it where it was trained")
    remote.push(_name(run_id), files, before_naming)


def try_push(run_id: str, before_naming: Callable[[], None] = lambda: None) -> None:
    """Pushes a run, if there is a place to push to. What fails is logged, and training goes on."""
    try:
        if open_remote() is not None:
            push_run(run_id, before_naming)
    except UserError as error:
        log.warning("not pushed: %s", error)


def _name(run_id: str) -> str:
    return f"runs/{run_id}"


def _reached(files: Collection[str]) -> str:
    """How far a folder with these files is, in an order of texts: nothing, its checkpoint, the end."""
    checkpoints = [name.split("/")[1] for name in files if name.startswith("checkpoint/")]  # sort by stage and step
    ended = not checkpoints and any(name.startswith("student-last/") for name in files)
    return "ended" if ended else max(checkpoints, default="")
