"""Teachers and their kept answers between computers without a common disk: taken from `KD_REMOTE`, pushed once.

Both have names that follow from all they depend on, so what is there under the name is what would be made here. Where
the place cannot be used they are made here, and the log says so.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from kdcore.errors import UserError
from kdcore.remote import Remote, files_of, open_remote

log = logging.getLogger("kdcore.engine.sharing")


class _TakenError(Exception):
    """Another computer has pushed the same meanwhile."""


def _check_free(remote: Remote, name: str) -> None:
    if remote.files(name) is not None:
        raise _TakenError


def fetch_teacher(folder: Path) -> None:
    """Puts a teacher that another computer trained into its folder here; does nothing where there is none."""
    with _remote() as remote:
        if remote is None:
            return
        with remote.pulled(_teacher(folder)) as got:
            if got is not None:
                shutil.rmtree(folder, ignore_errors=True)  # one that lacks its teacher.json
                os.rename(got, folder)


def share_teacher(folder: Path) -> None:
    """Pushes a teacher that was trained here, unless another one is there."""
    with _remote() as remote:
        if remote is not None and remote.files(_teacher(folder)) is None:
            with suppress(_TakenError):
                remote.push(_teacher(folder), files_of(folder), partial(_check_free, remote, _teacher(folder)))


def fetch_outputs(entry: Path, stems: Iterable[str]) -> None:
    """Puts kept answers that are not here at all into an entry of the teacher cache. stems: file names of tensors."""
    with _remote() as remote:
        for stem in stems:
            if remote is None or (entry / f"{stem}.values").exists():
                continue
            with remote.pulled(_outputs(entry, stem)) as got:
                for file in sorted(got.iterdir(), key=lambda file: file.suffix == ".present") if got else ():
                    os.replace(file, entry / file.name)


def share_outputs(entry: Path, stems: Iterable[str]) -> None:
    """Pushes the answers of tensors that are complete here, unless they are there."""
    with _remote() as remote:
        for stem in stems:
            if remote is not None and remote.files(_outputs(entry, stem)) is None:
                files = {file.name: file for file in sorted(entry.glob(f"{stem}.*"))}
                if {f"{stem}.values", f"{stem}.present"} <= files.keys():  # a clean-up may have come between
                    remote.push(_outputs(entry, stem), files)


def _teacher(folder: Path) -> str:
    return f"teachers/{folder.name}"


def _outputs(entry: Path, stem: str) -> str:
    return f"outputs/{entry.name}/{stem}"


@contextmanager
def _remote() -> Iterator[Remote | None]:
    """The place; what goes wrong with it ends the block and is logged."""
    remote = None
    try:
        remote = open_remote()
    except UserError as error:
        log.warning("%s", error)
    try:
        yield remote
    except UserError as error:
        log.warning("%s", error)
