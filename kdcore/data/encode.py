"""Tokenise once, then cut batches: which rows go together, and their padded tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdcore.data.splits import Split
from kdcore.data.words import word_numbers
from kdcore.records import NO_WORD, Batch, Encoding

if TYPE_CHECKING:
    from torch import Tensor

ROWS_AT_ONCE = 8192
"""Rows handed to the tokenizer in one call, which bounds the memory of its Python lists."""

POOL = 64
"""Batches per pool of like lengths: enough to save padding, few enough that an epoch stays well mixed."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of a split, one row after another.

    input_ids: int32 [tokens of all rows]. token_types: uint8, the same shape.
    offsets: int64 [rows + 1]; row r is input_ids[offsets[r] : offsets[r + 1]].
    labels, ids, sources: those of the split.
    words: int32 like input_ids, the word of the text that each token is of, as `words` numbers them; None: not asked.
    readings: the same rows as other tokenizers read them, by a key of `Batch.encodings`.
    """

    input_ids: NDArray[np.int32]
    token_types: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    labels: NDArray[np.generic]
    ids: NDArray[np.int64]
    pad_id: int = 0
    sources: NDArray[np.int64] | None = None
    words: NDArray[np.int32] | None = None
    readings: Mapping[str, Encoded] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, [CLS] and [SEP] included: int64 [rows]."""
        return np.diff(self.offsets)

    def reading(self, key: str) -> Encoded:
        """The rows as the tokenizer of this key reads them; "" is this one."""
        return self.readings[key] if key else self

    def take(self, rows: NDArray[np.int64]) -> Encoded:
        """These rows, in this order, with the ids they always had."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Encoded(
            self.input_ids[tokens], self.token_types[tokens], offsets, self.labels[rows], self.ids[rows], self.pad_id,
            None if self.sources is None else self.sources[rows],
            None if self.words is None else self.words[tokens],
            {key: reading.take(rows) for key, reading in self.readings.items()},
        )  # fmt: skip


def encode(
    split: Split, tokenizer: Any, max_length: int, others: Mapping[str, Any] | None = None, words: bool = False
) -> Encoded:
    """Tokenise every row of `split`, cut to `max_length` tokens (the longer sentence of a pair first).

    Args:
        others: key -> another tokenizer that reads the same rows. words: whether the words of the tokens are told, too,
            as they are where there are others.
    """
    readings = {key: encode(split, other, max_length, words=True) for key, other in (others or {}).items()}
    return replace(_encode(split, tokenizer, max_length, words or bool(readings)), readings=readings)


def _encode(split: Split, tokenizer: Any, max_length: int, words: bool) -> Encoded:
    ids, types = [], []
    numbers: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    for start in range(0, len(split), ROWS_AT_ONCE):
        columns = [column[start : start + ROWS_AT_ONCE] for column in split.texts]
        coded = tokenizer(
            *columns, truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=True
        )
        ids.append(_flat(coded["input_ids"], np.int32))
        types.append(_flat(coded["token_type_ids"], np.uint8))
        lengths.extend(map(len, coded["input_ids"]))
        if words and coded.encodings:
            numbers.extend(map(word_numbers, coded.encodings, zip(*columns, strict=True)))
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    return Encoded(
        np.concatenate(ids) if ids else np.empty(0, np.int32),
        np.concatenate(types) if types else np.empty(0, np.uint8),
        offsets,
        split.labels,
        split.ids,
        int(tokenizer.pad_token_id or 0),
        split.sources,
        np.concatenate(numbers) if numbers else None,
    )


def epoch_order(
    lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int, bucket: bool = True
) -> list[NDArray[np.int64]]:
    """Row numbers of each batch of an epoch, a function of (seed, epoch) alone.

    Every row comes exactly once. The rows that do not fill a batch are drawn at random and come as the last, short
    batch. With `bucket`, rows of like length share a batch; the batches are then shuffled.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    full = len(order) - len(order) % batch_size
    batches: list[NDArray[np.int64]] = []
    for start in range(0, full, POOL * batch_size):
        pool = order[start : min(start + POOL * batch_size, full)]
        if bucket:
            pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches.extend(pool.reshape(-1, batch_size))
    if bucket:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches + ([order[full:]] if full < len(order) else [])


def sorted_order(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Batches of rows by rising length, ties by row: the same for whoever asks (evaluation, teacher cache)."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def collate(encoded: Encoded, rows: NDArray[np.int64], multiple: int = 1, task: str = "") -> Batch:
    """These rows as tensors, as every tokenizer reads them, padded on the right: see `pad`.

    task: key of another task than the run's, where they are of one.
    """
    import torch

    labels, ids = torch.from_numpy(encoded.labels[rows]), torch.from_numpy(encoded.ids[rows])
    source = None if encoded.sources is None else torch.from_numpy(encoded.sources[rows])
    encodings = {key: pad(encoded.reading(key), rows, multiple) for key in ("", *encoded.readings)}
    return Batch(ids, labels, encodings, task, source)


def pad(encoded: Encoded, rows: NDArray[np.int64], multiple: int = 1) -> Encoding:
    """Ids, mask and token types of these rows, padded to the longest of them: int64 [batch, tokens].

    Args:
        multiple: tokens are rounded up to a multiple of this; `Compute.pad_to` says which is fast on a device.
    """
    import torch

    lengths = encoded.lengths[rows]
    width = -(-int(lengths.max(initial=1)) // multiple) * multiple
    columns = np.arange(width)
    real = columns < lengths[:, None]
    indices = (encoded.offsets[rows][:, None] + columns)[real]

    def padded(flat: NDArray[Any], fill: int) -> Tensor:
        out = np.full(real.shape, fill, dtype=np.int64)
        out[real] = flat[indices]
        return torch.from_numpy(out)

    return Encoding(
        padded(encoded.input_ids, encoded.pad_id),
        torch.from_numpy(real.astype(np.int64)),
        padded(encoded.token_types, 0),
        None if encoded.words is None else padded(encoded.words, NO_WORD),
    )


def _flat(lists: Iterable[list[int]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.fromiter(chain.from_iterable(lists), dtype=dtype)
