"""Pocket teachers that are trained already: those of the example study, as a cache keeps them."""

from __future__ import annotations

import shutil
from pathlib import Path

from kdcore.runs.example import FOLDER


def put_into(cache: Path) -> None:
    """Runs with `max_length` 64 and all rows then find their pocket teachers of Pocket sentiment."""
    shutil.copytree(FOLDER / "teachers", cache / "teachers", dirs_exist_ok=True)
