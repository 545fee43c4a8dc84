"""Train only the word vectors that the training rows use.

The table of word embeddings is the largest tensor of a small student: 30,522 x 384 are 47 MB, of which SST-2's training
rows use 38 %. The gradient of a word that no row holds is zero for ever, and so are AdamW's moments: of all the update
only weight decay remains, which multiplies its vector by 1 - lr * decay at each step. So those rows need no gradient,
no moments and no pass over memory, only one product when somebody looks. What is computed is what the whole table
would give, up to float32 rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UnusedRows(nn.Module):
    """The vectors of the other words: as the stage began, and the factor that weight decay has left of them.

    Values are always made from these two, so that neither who looks in between nor a resume changes a bit of them.
    """

    start: Tensor
    factor: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start)
        self.register_buffer("factor", torch.ones((), dtype=torch.float64))

    def values(self) -> Tensor:
        """[words, width]."""
        return self.start * self.factor.to(self.start)


class SparseEmbedding(nn.Module):
    """A table of word embeddings, `used` rows first in memory: these are the parameter, the others only decay.

    Its state is that of the `nn.Embedding` it stands for: one tensor `weight`, [vocabulary, width], in the vocabulary's
    order. In training mode only words of `used` may come; in eval mode all.

    Args:
        table: the embedding, not changed. used: word ids that occur in training, int64 [n], without repetition.
    """

    _row: Tensor

    def __init__(self, table: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        words = table.num_embeddings
        rest = torch.ones(words, dtype=torch.bool)
        rest[used] = False
        order = torch.cat([used, rest.nonzero()[:, 0]]).to(table.weight.device)
        row = torch.empty_like(order)
        row[order] = torch.arange(words, device=order.device)
        self._padding = None if table.padding_idx is None else int(row[table.padding_idx])
        self._whole = table.weight.detach()[order]
        self._current = True
        self.register_buffer("_row", row, persistent=False)
        self.trained = nn.Parameter(self._whole[: len(used)], requires_grad=table.weight.requires_grad)
        self._unused = [UnusedRows(self._whole[len(used) :].clone())]  # in a list, or it would be part of the state

    @property
    def unused(self) -> UnusedRows:
        """What a checkpoint inside a stage keeps beside the weights."""
        return self._unused[0]

    def forward(self, ids: Tensor) -> Tensor:
        if self.training:
            return F.embedding(self._row[ids], self.trained, self._padding)
        return F.embedding(self._row[ids], self._table())

    def decay(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Notes what one step's weight decay takes of the other rows. Called after each of the optimiser's steps."""
        group = next(g for g in optimizer.param_groups if any(p is self.trained for p in g["params"]))
        self.unused.factor *= 1.0 - float(group["lr"]) * float(group["weight_decay"])
        self._current = False

    def _table(self) -> Tensor:
        """All vectors as they are now, used words first: [vocabulary, width]."""
        if not self._current:
            self._whole[len(self.trained) :] = self.unused.values()
            self._current = True
        return self._whole

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self._table()[self._row]

    def _load_from_state_dict(self, state: Any, prefix: str, *_: Any) -> None:
        with torch.no_grad():
            self._whole[self._row] = state[f"{prefix}weight"].to(self._whole)
        self._unused = [UnusedRows(self._whole[len(self.trained) :].clone())]
        self._current = True


@contextmanager
def sparse_embedding(model: nn.Module, used: Tensor) -> Iterator[SparseEmbedding | None]:
    """Within the block the model trains these words' vectors only; afterwards it has its plain table again.

    Where every word is used, or words have no plain table, nothing changes and None is given.
    """
    encoder: Any = model
    table = encoder.get_input_embeddings()
    if not isinstance(table, nn.Embedding) or len(used) == table.num_embeddings:
        yield None
        return
    embedding = SparseEmbedding(table, used).train(table.training)
    encoder.set_input_embeddings(embedding)
    try:
        yield embedding
    finally:
        with torch.no_grad():
            table.weight.copy_(embedding.state_dict()["weight"])
        encoder.set_input_embeddings(table)
