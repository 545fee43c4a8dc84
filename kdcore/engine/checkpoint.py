"""A training's state on disk: tensors as safetensors, the rest as JSON, complete or absent.

A checkpoint is a folder `checkpoint/<step>` that is written under another name and renamed; the one before goes only
then. Reading takes the newest that is whole.
"""

from __future__ import annotations

import json
import shutil
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from kdcore.errors import CorruptError

_SUMS = "sums.json"
"""File in a checkpoint: name of each other file -> checksum of its bytes."""

Optimizers = Mapping[str, torch.optim.Optimizer]


@dataclass
class TrainingState:
    """Where a training is, and what it decided so far. JSON-able.

    step: optimiser steps done in the whole run, pilots included. stage, stage_step: the stage and steps done in it.
    spent: steps of the run's budget done in earlier stages (pilots do not count), which is where its data order stands.
    best: the best score on `select` in this stage, and the run step it was reached at; stale: evaluations since.
    own_teachers: role that earlier stages made a teacher of -> hash of its folder.
    """

    step: int = 0
    stage: int = 0
    stage_step: int = 0
    spent: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    history: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    own_teachers: dict[str, str] = field(default_factory=dict)


def save(
    folder: Path,
    state: TrainingState,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    before_saving: Callable[[], None] = lambda: None,
) -> None:
    """Writes a checkpoint of these modules and optimisers into `folder`, then drops older ones.

    before_saving: called when all is written and before it is renamed; where it raises, nothing has changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{state.stage:02d}-{state.step:08d}"
    partial = folder / f"{name}.{uuid.uuid4().hex[:8]}.partial"  # a worker that lost the run may write the same step
    try:
        _write(partial, state, modules, optimizers)
        before_saving()
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk, half a checkpoint only takes room
        raise
    final = folder / name
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)


def _write(
    partial: Path,
    state: TrainingState,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    partial.mkdir()
    for key, module in modules.items():
        save_file(_tensors(module), partial / f"module-{key}.safetensors")
    for key, optimizer in optimizers.items():
        tensors, rest = _split(optimizer)
        save_file(tensors, partial / f"optimizer-{key}.safetensors")
        (partial / f"optimizer-{key}.json").write_text(json.dumps(rest))
    (partial / "place.json").write_text(json.dumps(asdict(state)))
    sums = {file.name: _checksum(file) for file in sorted(partial.iterdir())}
    (partial / _SUMS).write_text(json.dumps(sums))


def newest(folder: Path) -> Path | None:
    """The last whole checkpoint, or None."""
    if not folder.is_dir():
        return None
    whole = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.endswith(".partial"))
    return whole[-1] if whole else None


def check(checkpoint: Path) -> None:
    """Raises CorruptError where a file is not as it was written. Checkpoints of 0.1.0 have no checksums."""
    file = checkpoint / _SUMS
    if not file.is_file():
        return
    try:
        sums = json.loads(file.read_text())
        wrong = [name for name, value in sums.items() if _checksum(checkpoint / name) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise _corrupt(checkpoint, error) from error
    if wrong:
        raise _corrupt(checkpoint, ValueError(f"{wrong[0]} is not as it was written"))


def read_state(checkpoint: Path) -> TrainingState:
    """The state that the checkpoint was written in.

    Raises:
        CorruptError: the file cannot be read.
    """
    try:
        return TrainingState(**json.loads((checkpoint / "place.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _corrupt(checkpoint, error) from error


def restore(checkpoint: Path, modules: Mapping[str, nn.Module], optimizers: Optimizers) -> None:
    """Puts the checkpoint's tensors back.

    Raises:
        CorruptError: a file is damaged or belongs to other settings.
    """
    try:
        for key, module in modules.items():
            module.load_state_dict(load_file(checkpoint / f"module-{key}.safetensors"))
        for key, optimizer in optimizers.items():
            rest = json.loads((checkpoint / f"optimizer-{key}.json").read_text())
            _join(optimizer, load_file(checkpoint / f"optimizer-{key}.safetensors"), rest)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _corrupt(checkpoint, error) from error


def _checksum(file: Path) -> int:
    """CRC-32 of the file's bytes."""
    value = 0
    with open(file, "rb") as opened:
        while part := opened.read(1 << 22):
            value = zlib.crc32(part, value)
    return value


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state with every tensor in storage of its own: safetensors takes no shared ones."""
    return {name: tensor.detach().contiguous().clone() for name, tensor in module.state_dict().items()}


def _split(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value.detach().contiguous()
        for index, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    return tensors, {"param_groups": state["param_groups"]}


def _join(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], rest: dict[str, Any]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": rest["param_groups"]})
    for parameter, moments in optimizer.state.items():
        if any(moment.dim() and moment.shape != parameter.shape for moment in moments.values()):
            raise ValueError("a parameter has another size than its moments")


def _corrupt(checkpoint: Path, error: Exception) -> CorruptError:
    return CorruptError(
        "checkpoint",
        f"{checkpoint.name} cannot be read ({str(error)[:120]})",
        "clone the run to start it anew; its logged points stay",
    )
