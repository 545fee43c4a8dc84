"""Outputs of frozen teachers, stored on disk under the example's id.

One folder an entry: a memory-mapped array, a checksum a row and a presence mask. The entry's name is a hash of all its
values depend on: the teacher's weights, the tokenizer, the rows, the length limit, the tensor, its layer and the
arithmetic. Rows are written before their presence bit, so a killed fill leaves nothing that reads as true; rows that do
not add up to their checksum when an entry is opened are made anew. Every fill runs the same canonical batches through
whole models, so it does not matter who filled an entry.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import nn

from kdcore import paths
from kdcore.data.encode import Encoded, pad, sorted_order
from kdcore.engine.device import Compute
from kdcore.engine.pins import is_pinned
from kdcore.engine.predict import BATCH
from kdcore.engine.sharing import fetch_outputs, share_outputs
from kdcore.errors import UserError
from kdcore.events import Progress
from kdcore.models.observe import observe
from kdcore.records import ALL_LAYERS, Encoding, ModelSize, Outputs, Want

CACHEABLE = frozenset({"logits", "pooled", "cls", "hidden"})
"""Tensors that are stored; attentions and projections are made anew each time."""

_DTYPE: dict[str, np.dtype[Any]] = {
    "logits": np.dtype(np.float32),
    "pooled": np.dtype(np.float16),
    "cls": np.dtype(np.float16),
    "hidden": np.dtype(np.float16),
}


_SUM = np.dtype(np.uint32)


@dataclass(frozen=True)
class CachedTensor:
    """One tensor of one layer (-1 where it has none), as stored."""

    name: str
    layer: int
    width: int

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return self.name if self.layer < 0 else f"{self.name}-{self.layer}"

    @property
    def file(self) -> str:
        """The values' file name; the presence bits' differs in its suffix."""
        return f"{self.stem}.values"

    def length(self, rows: Encoded) -> int:
        """Vectors stored: one a row, or one a token."""
        return int(rows.offsets[-1]) if self.name == "hidden" else len(rows)

    def size(self, rows: Encoded) -> int:
        """Bytes on disk."""
        values = self.length(rows) * self.width * _DTYPE[self.name].itemsize
        return values + len(rows) * (_SUM.itemsize + 1)

    def sums(self, values: NDArray[Any], rows: Encoded, chosen: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The CRC-32 of each chosen row's values, begun with the row's number: uint32 [chosen]."""
        stored = values.data.cast("B") if values.size else memoryview(b"")
        ends = rows.offsets if self.name == "hidden" else np.arange(len(rows) + 1)
        starts, stops = ((ends[chosen + place] * self.width * values.itemsize).tolist() for place in (0, 1))
        crcs = map(lambda row, start, stop: zlib.crc32(stored[start:stop], row), chosen.tolist(), starts, stops)
        return np.fromiter(crcs, _SUM, len(chosen))


def tensors_of(wanted: Want, size: ModelSize) -> list[CachedTensor] | None:
    """What to store for these wants, or None where one of them is not stored at all."""
    if not set(wanted) <= CACHEABLE:
        return None
    tensors = []
    for name, layers in sorted(wanted.items()):
        if name == "logits":
            tensors.append(CachedTensor(name, -1, size.labels))
        elif name == "pooled":
            tensors.append(CachedTensor(name, -1, size.pooled_width or size.width))
        else:
            every = range(size.layers + 1) if layers == ALL_LAYERS else layers
            tensors.extend(CachedTensor(name, layer, size.width) for layer in every)
    return tensors


class TeacherCache:
    """Stored outputs of one teacher over one set of rows.

    Args:
        identity: words that the values depend on besides tensor and layer; hashed into the entry's name.
        rows: the encoded rows; outputs are looked up by their ids.
        tensors: what to store.
    """

    def __init__(self, identity: dict[str, Any], rows: Encoded, tensors: list[CachedTensor]) -> None:
        self.folder = entry_folder(identity, rows)
        self.rows = rows
        self.tensors = tensors
        self._by_id = np.argsort(rows.ids, kind="stable")
        self._sorted_ids = rows.ids[self._by_id]
        self.hits = self.misses = self.damaged = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "opening.lock"):  # two runs that open a new entry must not both make its files
            (self.folder / "identity.json").write_text(json.dumps(identity, sort_keys=True))
            fetch_outputs(self.folder, [tensor.stem for tensor in tensors])
            self._values = {tensor: self._open(tensor) for tensor in tensors}
            self._present = {tensor: self._open_present(tensor) for tensor in tensors}
            self._sums = {tensor: self._open_sums(tensor) for tensor in tensors}
        self._forget_damaged()

    def missing(self) -> NDArray[np.bool_]:
        """Rows of which some tensor is not stored, bool [rows]."""
        lacking = np.zeros(len(self.rows), dtype=bool)
        for present in self._present.values():
            lacking |= present == 0
        return lacking

    def fill(self, model: nn.Module, compute: Compute, what: str) -> Generator[Progress, None, float]:
        """Runs the teacher over every canonical batch with a row that is not stored. Returns the seconds it took."""
        start = time.perf_counter()
        lacking = self.missing()
        self.hits, self.misses = int((~lacking).sum()), int(lacking.sum())
        batches = [batch for batch in sorted_order(self.rows.lengths, BATCH) if lacking[batch].any()]
        wanted = _want(self.tensors)
        model.eval()
        for done, batch in enumerate(batches, start=1):
            encoding = pad(self.rows, batch, compute.pad_to).to(compute.device)
            with compute.autocast():
                outputs = observe(model, encoding, wanted, grad=False, whole=True)
            for tensor in self.tensors:
                self._write(tensor, batch, _pick(outputs, tensor).float().cpu().numpy())
            yield Progress(what, done, len(batches))
        self._flush()
        share_outputs(self.folder, [tensor.stem for tensor in self.tensors])
        return time.perf_counter() - start

    def read(self, ids: torch.Tensor, encoding: Encoding, device: torch.device) -> Outputs:
        """The stored outputs of these examples, float32, `hidden` padded with zeros like `encoding`.

        Raises:
            KeyError: an id that is not among the rows.
        """
        rows = self._rows_of(ids.cpu().numpy())
        outputs: dict[str, Any] = {}
        for tensor in self.tensors:
            values = self._values[tensor]
            if tensor.name == "hidden":
                array = self._pad(values, rows, encoding.input_ids.shape[1])
            else:
                array = np.asarray(values[rows], dtype=np.float32)
            value = torch.from_numpy(array).to(device, non_blocking=True)
            if tensor.layer < 0:
                outputs[tensor.name] = value
            else:
                outputs.setdefault(tensor.name, {})[tensor.layer] = value
        return Outputs(outputs, encoding.attention_mask)

    def logits(self) -> NDArray[np.float32]:
        """All stored logits in the order of the rows, float32 [rows, outputs]."""
        tensor = next(tensor for tensor in self.tensors if tensor.name == "logits")
        return np.array(self._values[tensor], dtype=np.float32)

    def _rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        positions = np.searchsorted(self._sorted_ids, ids)
        positions[positions == len(self._sorted_ids)] = 0
        if not np.array_equal(self._sorted_ids[positions], ids):
            raise KeyError(
                f"examples {ids[self._sorted_ids[positions] != ids][:3].tolist()} are not in the teacher cache"
            )
        return self._by_id[positions]

    def _pad(self, values: NDArray[Any], rows: NDArray[np.int64], tokens: int) -> NDArray[np.float32]:
        out = np.zeros((len(rows), tokens, values.shape[1]), dtype=np.float32)
        for i, row in enumerate(rows):
            start, stop = self.rows.offsets[row], self.rows.offsets[row + 1]
            out[i, : stop - start] = values[start:stop]
        return out

    def _write(self, tensor: CachedTensor, batch: NDArray[np.int64], array: NDArray[np.float32]) -> None:
        values, offsets = self._values[tensor], self.rows.offsets
        if tensor.name == "hidden":
            for i, row in enumerate(batch):
                start, stop = offsets[row], offsets[row + 1]
                values[start:stop] = array[i, : stop - start]
        else:
            values[batch] = array
        self._sums[tensor][batch] = tensor.sums(values, self.rows, batch)
        self._present[tensor][batch] = 1

    def _flush(self) -> None:
        """Data before the bits that say it is there."""
        for values in (*self._values.values(), *self._sums.values()):
            values.flush()
        for present in self._present.values():
            present.flush()

    def _open(self, tensor: CachedTensor) -> np.memmap[Any, Any]:
        shape = (tensor.length(self.rows), tensor.width)
        return _open_array(self.folder / tensor.file, _DTYPE[tensor.name], shape)

    def _open_present(self, tensor: CachedTensor) -> np.memmap[Any, Any]:
        path = (self.folder / tensor.file).with_suffix(".present")
        return _open_array(path, np.dtype(np.uint8), (len(self.rows),))

    def _open_sums(self, tensor: CachedTensor) -> np.memmap[Any, Any]:
        path = (self.folder / tensor.file).with_suffix(".sums")
        unknown = not path.exists()  # of a version that kept none: what is there is taken as it is
        sums = _open_array(path, _SUM, (len(self.rows),))
        if unknown:
            there = np.flatnonzero(self._present[tensor])
            sums[there] = tensor.sums(self._values[tensor], self.rows, there)
        return sums

    def _forget_damaged(self) -> None:
        """Takes rows whose values are not those that were written for missing."""
        lost = np.zeros(len(self.rows), dtype=bool)
        for tensor, present in self._present.items():
            there = np.flatnonzero(present)  # before the sums are read: another process may be filling the entry
            wrong = there[tensor.sums(self._values[tensor], self.rows, there) != self._sums[tensor][there]]
            present[wrong] = 0
            lost[wrong] = True
        self.damaged = int(lost.sum())


def entry_folder(identity: dict[str, Any], rows: Encoded) -> Path:
    """Where the outputs of this teacher over these rows are, or will be."""
    text = json.dumps({**identity, "rows": _digest(rows)}, sort_keys=True)
    return paths.cache_subdir("outputs") / hashlib.sha256(text.encode()).hexdigest()[:32]


def budget() -> int:
    """Bytes that stored outputs may take: `KD_TEACHER_CACHE_GB`, default 4.

    Raises:
        UserError: it is not a number.
    """
    text = os.environ.get("KD_TEACHER_CACHE_GB", "4")
    try:
        return int(float(text) * 2**30)
    except (ValueError, OverflowError):
        raise UserError("KD_TEACHER_CACHE_GB", f"{text[:40]!r} is not a number", "give gigabytes, such as 4") from None


def bytes_in_use() -> int:
    """Bytes that stored outputs take now."""
    return sum(_size(entry) for entry in _entries())


def make_room(needed: int, keep: set[Path]) -> bool:
    """Drops least recently used entries until `needed` bytes fit the budget. False where they cannot.

    Entries in `keep` and entries that are pinned stay.
    """
    entries = _entries()
    free = budget() - sum(_size(entry) for entry in entries)
    for entry in entries:
        if free >= needed:
            break
        if entry not in keep and not is_pinned(entry):
            free += _size(entry)
            shutil.rmtree(entry, ignore_errors=True)
    return free >= needed


def _entries() -> list[Path]:
    """All entries, least recently used first."""
    used = {entry: _stat(entry) for entry in paths.cache_subdir("outputs").iterdir() if entry.is_dir()}
    return sorted((entry for entry in used if used[entry]), key=lambda entry: used[entry].st_mtime)


def _size(entry: Path) -> int:
    with suppress(FileNotFoundError):
        return sum(stat.st_size for file in entry.iterdir() if (stat := _stat(file)))
    return 0


def _stat(path: Path) -> Any:
    """The file's facts, or None where another process has just removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _open_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """The array in this file; a file of another size (killed while made, or damaged) starts anew, all zeros.

    Raises:
        OSError: the disk is full. Room is taken now: a page that finds none later would kill the process (SIGBUS).
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if not path.exists() or path.stat().st_size != size:
        if path.suffix == ".values":
            path.with_suffix(".present").unlink(missing_ok=True)
        with open(path, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def _digest(rows: Encoded) -> str:
    digest = hashlib.sha256()
    for array in (rows.input_ids, rows.token_types, rows.offsets, rows.ids):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _want(tensors: list[CachedTensor]) -> dict[str, tuple[int, ...]]:
    wanted: dict[str, tuple[int, ...]] = {}
    for tensor in tensors:
        wanted[tensor.name] = wanted.get(tensor.name, ()) + ((tensor.layer,) if tensor.layer >= 0 else ())
    return wanted


def _pick(outputs: Outputs, tensor: CachedTensor) -> torch.Tensor:
    value = getattr(outputs, tensor.name)
    result: torch.Tensor = value if tensor.layer < 0 else value[tensor.layer]
    return result
