"""A full disk is a matter of one computer: its worker ends, and other computers go on with what waits."""

from __future__ import annotations

import errno
import shutil

from kdcore.errors import UserError
from kdcore.paths import cache_dir
from kdcore.process import node

LEAST_FREE = 2**26
"""Bytes that have to be free before a worker takes a run."""


class FullDiskError(UserError):
    """A computer has no room for a run."""


def full_disk() -> FullDiskError:
    """The error of this computer."""
    remedy = "free some space there (kdcore cache gc), then start its workers again"
    return FullDiskError("KD_CACHE_DIR", f"the disk of {node()} is full", remedy)


def is_full(error: BaseException) -> bool:
    """Whether an error of the system says so."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def check_room() -> None:
    """Raises FullDiskError where there is no room for any run."""
    if shutil.disk_usage(cache_dir()).free < LEAST_FREE:
        raise full_disk()
