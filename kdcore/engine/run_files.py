"""What a finished run left in its folder that numpy alone can read: predictions, and where its teachers are."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.errors import CorruptError

Arrays = dict[str, NDArray[Any]]
"""logits [rows, outputs], labels [rows], ids [rows]."""
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def teacher_folders(folder: Path) -> dict[str, Path]:
    """Name -> model folder of the run's teachers, those that still exist."""
    listed = folder / "teachers.json"
    if not listed.exists():
        return {}
    try:
        named = json.loads(listed.read_text())
        return {str(name): Path(path) for name, path in named.items() if Path(path).is_dir()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CorruptError(
            "run", f"{folder.name}/teachers.json cannot be read", "clone the run to train anew"
        ) from error


def weights_on_disk(folder: Path) -> dict[str, int]:
    """Model -> bytes of its weight files: "student" (the best) and the run's teachers, those that are on this disk.

    Raises:
        CorruptError: the list of teachers cannot be read.
    """
    homes = {"student": folder / "student-best", **teacher_folders(folder)}
    sizes = {name: sum(file.stat().st_size for file in home.glob("*.safetensors")) for name, home in homes.items()}
    return {name: size for name, size in sizes.items() if size}


def unfinished(folder: Path) -> list[Path]:
    """Students, checkpoints and snapshots in a run's folder that were never completed."""
    return sorted([*folder.glob(".student-*.writing"), *folder.rglob("*.partial")])


def remove_unfinished(folder: Path) -> None:
    """Clears what a killed process was writing in a run's folder. A student that it had set aside comes back."""
    for old in sorted(folder.glob(".student-*.old")):
        whole = folder / old.name.split(".")[1]
        if not whole.exists():
            old.rename(whole)
    for path in [*folder.glob(".student-*.old"), *unfinished(folder)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def predictions(folder: Path) -> dict[tuple[str, str], Arrays]:
    """(split, model) -> its arrays; the model is "student" or a teacher's name.

    Raises:
        CorruptError: a file cannot be read.
    """
    arrays = {}
    for file in sorted((folder / "predictions").glob("*.npz")):
        split, _, model = file.stem.partition(".")
        arrays[split, model] = _arrays(file)
    return arrays


def student_predictions(folder: Path, split: str) -> Arrays | None:
    """The student's arrays on one split; None where they are not stored.

    Raises:
        CorruptError: the file cannot be read.
    """
    return model_predictions(folder, split, "student")


def model_predictions(folder: Path, split: str, model: str) -> Arrays | None:
    """A model's arrays on one split; None where they are not stored. model: "student" or a teacher's name.

    Raises:
        CorruptError: the file cannot be read.
    """
    file = folder / "predictions" / f"{split}.{model}.npz"
    return _arrays(file) if file.exists() else None


def _arrays(file: Path) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("logits", "labels", "ids")}
    except _UNREADABLE as error:
        problem = f"{file.name} of {file.parent.parent.name} cannot be read"
        raise CorruptError("run", problem, "clone the run") from error
