"""Some rows of a task as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

NO_WORD = -1
"""The number of the word, of a token that a tokenizer adds, such as [CLS], and of padding."""


@dataclass(frozen=True)
class Encoding:
    """Token ids of a batch for one tokenizer, padded on the right. All are int64 [batch, tokens].

    words: of each token the number of its word in the text, -1 of special ones and padding; only where models of a run
        cut a text into different tokens, else None.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    words: Tensor | None = None

    def to(self, device: Any) -> Encoding:
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def rows(self, rows: Tensor) -> Encoding:
        return self._each(lambda tensor: tensor[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Encoding:
        ids, mask, types = map(change, self.tensors())
        return Encoding(ids, mask, types, None if self.words is None else change(self.words))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.input_ids, self.attention_mask, self.token_type_ids


@dataclass(frozen=True)
class Batch:
    """Some rows of one task.

    ids: int64 [batch] on the CPU, the rows' identity in the data set: teacher outputs are cached under it.
    labels: int64 [batch] (classification) or float32 [batch] (regression); -1 or NaN: the row has none, which only a
        method that `uses_unlabelled` rows is given.
    encodings: one per tokenizer; the key "" is the student's, and that of teachers that read as it does.
    task: key of the other task that they are of (`RunConfig.also`); empty: the run's own.
    source: int64 [batch], the number of each row's domain; None where the data name no domains.
    """

    ids: Tensor
    labels: Tensor
    encodings: Mapping[str, Encoding]
    task: str = ""
    source: Tensor | None = None

    @property
    def encoding(self) -> Encoding:
        return self.encodings[""]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, rows: Tensor) -> Batch:
        """Some of the rows, in the order of `rows`."""
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            encodings={key: encoding.rows(rows) for key, encoding in self.encodings.items()},
            source=None if self.source is None else self.source[rows],
        )

    def to(self, device: Any) -> Batch:
        """The same rows on the device, but for the ids: they are looked up on the CPU, and fetching them back from a
        GPU would wait for it at each step."""
        return replace(
            self,
            labels=self.labels.to(device, non_blocking=True),
            encodings={key: encoding.to(device) for key, encoding in self.encodings.items()},
            source=None if self.source is None else self.source.to(device, non_blocking=True),
        )
