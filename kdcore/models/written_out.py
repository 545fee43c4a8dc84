"""Attention in plain products, for passes that are differentiated twice: fused kernels cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = "kdboard_written_out"
"""Name under which this attention is known to transformers."""


@contextmanager
def written_out(model: nn.Module) -> Iterator[None]:
    """Within the block the model attends in plain products; its dropout stays that of its own modules."""
    _register()
    config: Any = model.config
    before = config._attn_implementation
    if before != "eager":  # a family's own, which MPNet has alone, is written out already
        config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """[batch, heads, tokens, head width] to [batch, tokens, heads, head width]."""
    scores = masked(query @ key.transpose(-1, -2) * (scaling or query.shape[-1] ** -0.5), attention_mask)
    return (module.dropout(scores.softmax(-1)) @ value).transpose(1, 2), None


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """The scores with the lowest number where transformers' mask (boolean, or negative where blocked) blocks a key."""
    if mask is None:
        return scores
    blocked = mask.logical_not() if mask.dtype == torch.bool else mask < 0
    return scores.masked_fill(blocked, torch.finfo(scores.dtype).min)


@cache
def _register() -> None:
    """Makes this attention known to transformers, whose import takes seconds that pages without a model do not pay."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)
