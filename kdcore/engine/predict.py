"""Logits of a model over encoded rows, in large batches sorted by length."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kdcore.data.encode import Encoded, pad, sorted_order
from kdcore.engine.device import Compute
from kdcore.events import Progress
from kdcore.models.observe import observe
from kdcore.records import want

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
    model.eval()
    batches = sorted_order(rows.lengths, BATCH)
    logits_by_batch: list[NDArray[Any]] = []
    for done, chosen in enumerate(batches, start=1):
        encoding = pad(rows, chosen, compute.pad_to).to(compute.device)
        with compute.autocast():
            logits = observe(model, encoding, want("logits"), grad=False).logits
        logits_by_batch.append(logits.float().cpu().numpy())
        yield Progress(what, done, len(batches))
    out = np.empty((len(rows), logits_by_batch[0].shape[1]), dtype=np.float32)
    out[np.concatenate(batches)] = np.concatenate(logits_by_batch)
    return out
