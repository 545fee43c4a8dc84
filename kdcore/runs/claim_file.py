"""The number of the latest claim of a run, in its folder: for a disk that computers share, where no database answers.

A worker that was cut from the database cannot ask whether a run is its own. The worker that took it up has left a
higher number in the folder before it read the checkpoint, so the first one sees there that it has lost the run.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

NAME = "claim"


def read_claim(folder: Path) -> int:
    """The number of the latest claim that was written here; 0 where there is none, or none that can be read."""
    with suppress(OSError, ValueError):
        return int((folder / NAME).read_text())
    return 0


def write_claim(folder: Path, number: int) -> None:
    """Says in the run's folder (made if absent) that it belongs to this claim, unless a later one has said so."""
    folder.mkdir(parents=True, exist_ok=True)
    if read_claim(folder) < number:
        partial = folder / f"{NAME}.{uuid.uuid4().hex[:8]}.partial"
        partial.write_text(str(number))
        os.replace(partial, folder / NAME)
