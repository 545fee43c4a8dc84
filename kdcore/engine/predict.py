"""Logits of a model over encoded rows, in large batches sorted by length."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kdcore.data.encode import Encoded, pad, sorted_order
from kdcore.engine.device import Compute
from kdcore.events import Progress
from kdcore.models.observe import observe
from kdcore.records import Encoding, want

BATCH = 64
"""Rows of a canonical batch: in bf16 a row's value depends on its padding, so every pass uses the same batches."""


Result = TypeVar("Result")


def result_of(passing: Generator[Progress, None, Result]) -> Result:
    """What a pass over rows returns, where its progress is not worth telling."""
    while True:
        try:
            next(passing)
        except StopIteration as end:
            value: Result = end.value
            return value


def predict(
    model: nn.Module, rows: Encoded, compute: Compute, what: str
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Yields progress, returns float32 logits [rows, outputs] in the order of `rows`. Leaves the model in eval mode."""

    def logits(encoding: Encoding, _chosen: NDArray[np.int64]) -> Tensor:
        with compute.autocast():
            answers: Tensor = observe(model, encoding, want("logits"), grad=False).logits
            return answers[None]

    model.eval()
    found = yield from by_batch(rows, BATCH, compute, logits, what)
    one: NDArray[np.float32] = found[0]
    return one


def by_batch(
    rows: Encoded, size: int, compute: Compute, read: Callable[[Encoding, NDArray[np.int64]], Tensor], what: str
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Reads rows of similar length together, yields progress, and returns what was read in the order of `rows`.

    Args:
        size: rows of a batch. read: a batch, and its rows' numbers -> [several, batch, ...].

    Returns:
        float32 [several, rows, ...].
    """
    batches = sorted_order(rows.lengths, size)
    parts: list[NDArray[np.float32]] = []
    for done, chosen in enumerate(batches, start=1):
        encoding = pad(rows, chosen, compute.pad_to).to(compute.device)
        parts.append(read(encoding, chosen).float().cpu().numpy())
        yield Progress(what, done, len(batches))
    return np.concatenate(parts, axis=1)[:, np.argsort(np.concatenate(batches))]
