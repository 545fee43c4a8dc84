"""One forward pass over rows of one length, as every measurement of what a model costs makes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from kdcore.models.anatomy import anatomy

Inputs = dict[str, Tensor]


def inputs_for(model: nn.Module, batch: int, tokens: int) -> Inputs:
    """Rows of random words without padding, [batch, tokens], on the model's device; the same ones every time."""
    parts = anatomy(model)
    rows = parts.vocabulary
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(5, rows - 1), rows, (batch, tokens), generator=generator).to(device_of(model))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if parts.token_types > 1:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return inputs


def arithmetic(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bf16 by autocast where that is the precision; else the model computes in what its weights are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def answer(model: nn.Module, inputs: Inputs, precision: str) -> None:
    """One forward pass, the device's work included."""
    device = inputs["input_ids"].device
    with arithmetic(device, precision):
        model(**inputs)
        finish(device)


def finish(device: torch.device) -> None:
    """Waits for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many CPU threads, and afterwards as many as before. None: as many as there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
