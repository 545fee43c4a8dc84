"""Run folders between computers without a common disk: pushed at each checkpoint and at the end, taken up elsewhere.

What a worker pushes lies under the number of its claim, and the highest number counts. So a worker that stood still, or
was cut from the database, for longer than its lease cannot replace what its successor pushed, whenever it goes on.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection

from filelock import FileLock

from kdcore.errors import UserError
from kdcore.paths import cache_subdir, run_dir
from kdcore.remote import FIELD, Remote, RemoteError, files_of, open_remote

log = logging.getLogger("kdcore.runs.remote_runs")


def fetch_run(run_id: str, check: Callable[[], None] = lambda: None) -> bool:
    """Makes the run's folder here the one that was pushed, where that is further; whether it was.

    check: called again and again meanwhile; may raise, then the folder here is as it was.

    Raises:
        RemoteError: it cannot be read. The folder here is as it was.
    """
    remote, folder = open_remote(), run_dir(run_id)
    if remote is None:
        return False
    with FileLock(cache_subdir("pulled") / f"{run_id}.lock"):  # two workers may need the student of one run
        while (newest := _newest(remote, run_id)) is not None:
            name, there = newest
            here = files_of(folder)
            if here and _reached(there) <= _reached(here):
                return False
            with remote.pulled(name, check) as got:
                if got is not None:  # else a later claim's has taken its place meanwhile
                    shutil.rmtree(folder, ignore_errors=True)
                    os.rename(got, folder)
                    return True
    return False


def push_run(
    run_id: str,
    claim_number: int,
    check_held: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Pushes the run's folder as it is now.

    claim_number: of the claim under which it was trained. check_held: raises where the run is another worker's by now,
    or nobody can tell; then nothing changes there. check: called again and again meanwhile; may raise, with the same.

    Raises:
        RemoteError: there is no room, or no connection. What was pushed before is there as it was.
    """
    remote, files = open_remote(), files_of(run_dir(run_id))
    if remote is None:
        raise RemoteError(FIELD, "is not set", "set it to an address such as file:///shared/kdboard")
    if not files:
        raise UserError("run", f"there is no folder of {run_id} here", "push it where it was trained")
    check_held()
    remote.push(f"runs/{run_id}/{claim_number:016d}", files, check_held, check)
    for earlier in _claims(remote, run_id):
        if int(earlier) < claim_number:
            remote.remove(f"runs/{run_id}/{earlier}")


def push_by_hand(run_id: str, claim_number: int) -> None:
    """Pushes a run that nobody trains, for a person; the rest is as for `push_run`.

    It gets no lower number than what is there, which it would be hidden by: the database may have forgotten its claims.

    Raises:
        UserError: what is there is further than what is here.
    """
    remote = open_remote()
    newest = _newest(remote, run_id) if remote else None
    if newest and _reached(newest[1]) > _reached(files_of(run_dir(run_id))):
        raise UserError("run", f"{run_id} is further there than here", f"fetch it with `kdcore cache pull {run_id}`")
    push_run(run_id, max([claim_number, *map(int, _claims(remote, run_id))]) if remote else claim_number)


def try_push(
    run_id: str,
    claim_number: int,
    check_held: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Pushes a run, if there is a place to push to. What fails is logged, and training goes on."""
    try:
        if open_remote() is not None:
            push_run(run_id, claim_number, check_held, check)
    except UserError as error:
        log.warning("not pushed: %s", error)


def _claims(remote: Remote, run_id: str) -> list[str]:
    """Folders of the run there, one for each claim that was pushed, the latest last."""
    return sorted(name for name in remote.names(f"runs/{run_id}") if name.isdecimal() and name.isascii())


def _newest(remote: Remote, run_id: str) -> tuple[str, dict[str, str]] | None:
    """Name and files of the run's latest claim that is there whole."""
    for claim in reversed(_claims(remote, run_id)):
        name = f"runs/{run_id}/{claim}"
        if (files := remote.files(name)) is not None:
            return name, files
    return None


def _reached(files: Collection[str]) -> str:
    """How far a folder with these files is, in an order of texts: nothing, its checkpoint, with a student, the end."""
    checkpoints = [name.split("/")[1] for name in files if name.startswith("checkpoint/")]  # sort by stage and step
    student = any(name.startswith("student-last/") for name in files)
    if student and not checkpoints:
        return "ended"
    return max(checkpoints, default="") + "+" * student
