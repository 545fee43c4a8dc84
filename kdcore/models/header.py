"""What a safetensors file holds, from its header alone: names, types and shapes, read within limits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdcore.errors import UserError

LIMIT = 4 * 2**20
"""Bytes of a header. That of BERT-large, 400 tensors, takes 50 kB; half a million names take minutes to read."""

MOST_TENSORS = 20_000
"""Tensors of one file. BERT-large has 400; a header within `LIMIT` can name so many that checks take minutes."""

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Types of weights that are read -> bytes of a number."""

WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and training loops put before every name of the model that they wrap."""

_WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class StoredTensor:
    """dtype: as safetensors calls it, `F32`."""

    dtype: str
    shape: tuple[int, ...]


def read_header(file: Path, field: str) -> dict[str, StoredTensor]:
    """Name -> type and shape of each tensor in the file.

    Raises:
        UserError: the file is not safetensors, is cut short, or has a header of absurd length or absurdly many tensors.
    """
    try:
        size = file.stat().st_size
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > LIMIT:
                raise ValueError(f"its header of {length:,} bytes is longer than the {LIMIT:,} that are read")
            if size < 8 + length:
                raise ValueError(f"it ends after {size:,} bytes, within its header")
            content = json.loads(opened.read(length))
        content.pop("__metadata__", None)
        if len(content) > MOST_TENSORS:
            raise ValueError(f"it names {len(content):,} tensors, more than {MOST_TENSORS:,}")
        return {name: _tensor(entry, size - 8 - length) for name, entry in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error)[:200] or type(error).__name__
        raise UserError(field, f"{file} cannot be read: {reason}", "copy or save the model again") from error


def wrapper(names: Iterable[str]) -> str:
    """What stands before the encoder's own names because the model was saved inside a wrapper; empty where nothing.

    >>> wrapper(["module.bert.embeddings.word_embeddings.weight", "module.classifier.bias"])
    'module.'
    """
    prefixes = {_leading_wrappers(name) for name in names if name.endswith(_WORDS)}
    return prefixes.pop() if len(prefixes) == 1 else ""


def _leading_wrappers(name: str) -> str:
    rest = name
    while start := next((wrapper for wrapper in WRAPPERS if rest.startswith(wrapper)), ""):
        rest = rest.removeprefix(start)
    return name.removesuffix(rest)


def _tensor(entry: Any, data: int) -> StoredTensor:
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not isinstance(dtype, str) or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("a tensor has no type and shape")
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= data:
        raise ValueError("it ends before its last tensor does")
    if dtype in FLOATS and end - start != math.prod(shape) * FLOATS[dtype]:
        raise ValueError("a tensor has another size than its shape says")
    return StoredTensor(dtype, shape)
