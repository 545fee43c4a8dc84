"""What a finished run left in its folder, for pages, export and bundles."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kdcore.errors import CorruptError, UserError
from kdcore.events import Probed
from kdcore.models.students import load_classifier
from kdcore.models.tokenizers import load_tokenizer

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def student(folder: Path, which: Literal["best", "last"] = "best") -> tuple[nn.Module, Any]:
    """The run's student in eval mode, and its tokenizer.

    Raises:
        UserError: the run kept no student.
    """
    home = folder / f"student-{which}"
    if not home.is_dir():
        raise UserError("run", f"{folder.name} kept no {which} student", "choose a run that is done, or resume it")
    return load_classifier(home), load_tokenizer(home)


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
            "run", f"{folder.name}/teachers.json does not read", "clone the run to train anew"
        ) from error


def teachers(folder: Path) -> dict[str, tuple[nn.Module, Any]]:
    """Name -> (model in eval mode, tokenizer) of the run's teachers."""
    return {name: (load_classifier(home), load_tokenizer(home)) for name, home in teacher_folders(folder).items()}


def keep_probe(folder: Path, name: str, step: int, data: dict[str, Any]) -> Probed:
    """Writes what a probe found into the run's folder, and says it."""
    home = folder / "probes"
    home.mkdir(exist_ok=True)
    (home / f"{name}.json").write_text(json.dumps(data))
    return Probed(name, step, data)


def predictions(folder: Path) -> dict[tuple[str, str], dict[str, NDArray[Any]]]:
    """(split, model) -> logits [rows, outputs], labels [rows], ids [rows]; the model is "student" or a teacher's name.

    Raises:
        CorruptError: a file does not read.
    """
    found = {}
    for file in sorted((folder / "predictions").glob("*.npz")):
        split, _, model = file.stem.partition(".")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                found[split, model] = {name: arrays[name] for name in ("logits", "labels", "ids")}
        except _UNREADABLE as error:
            raise CorruptError("run", f"{file.name} of {folder.name} does not read", "clone the run") from error
    return found
