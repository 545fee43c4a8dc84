"""What a finished run left in its folder, for pages, export and bundles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from kdcore.engine.run_files import predictions, teacher_folders, weights_on_disk
from kdcore.errors import UserError
from kdcore.events import Probed
from kdcore.models.students import load_classifier
from kdcore.models.tokenizers import load_tokenizer
from kdcore.probes import latency
from kdcore.probes.latency import Latency

__all__ = ["keep_latency", "keep_probe", "predictions", "student", "teacher_folders", "teachers"]


def student(folder: Path, which: Literal["best", "last"] = "best") -> tuple[nn.Module, Any]:
    """The run's student in eval mode, and its tokenizer.

    Raises:
        UserError: the run kept no student.
    """
    home = folder / f"student-{which}"
    if not home.is_dir():
        raise UserError("run", f"{folder.name} kept no {which} student", "choose a run that is done, or resume it")
    return load_classifier(home), load_tokenizer(home)


def teachers(folder: Path) -> dict[str, tuple[nn.Module, Any]]:
    """Name -> (model in eval mode, tokenizer) of the run's teachers."""
    return {name: (load_classifier(home), load_tokenizer(home)) for name, home in teacher_folders(folder).items()}


def keep_latency(
    folder: Path, step: int, records: Iterable[Latency], known: Iterable[Mapping[str, Any]] = ()
) -> Probed:
    """The probe "latency" of a run: these records, with the size of the models' files, and others that are known."""
    sizes = weights_on_disk(folder)
    whole = [replace(record, disk=sizes.get(record.name)) for record in records]
    return keep_probe(folder, "latency", step, {"records": latency.merge(known, whole)})


def keep_probe(folder: Path, name: str, step: int, data: dict[str, Any]) -> Probed:
    """Writes what a probe found into the run's folder, and says it."""
    home = folder / "probes"
    home.mkdir(exist_ok=True)
    (home / f"{name}.json").write_text(json.dumps(data))
    return Probed(name, step, data)
