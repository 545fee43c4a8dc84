"""Dropout with a generator of its own, so that nothing else in the process can change a training run.

torch's dropout draws from the process-wide generator: a page that loads a model in another thread would change the
masks, and a resumed run would need the generator's state. Here each step's masks follow from (seed, stage, step) alone.
On the GPU torch's own dropout stays (its kernels are fused); there the loop seeds the device's generator each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from kdcore.models.written_out import masked

ATTENTION = "kdboard_seeded"
"""Name under which the attention with seeded dropout is known to transformers."""

_LEVELS = 1 << 16  # a mask compares 16 random bits with the keep probability, four masks to one draw


class SeededDropout(nn.Module):
    """`nn.Dropout` whose masks come from `generator`. p is rounded to a multiple of 2^-16."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        return drop(x, self.p, self.generator) if self.training and self.p else x


def drop(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """x with each element zeroed with probability p and the rest scaled by 1 / (1 - p), any shape."""
    cut = min(round(p * _LEVELS), _LEVELS - 1)
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    mask = (bits.view(torch.int16)[: x.numel()] >= cut - _LEVELS // 2).view(x.shape)
    return x * mask.to(x.dtype).mul_(_LEVELS / (_LEVELS - cut))


@contextmanager
def seeded_dropout(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Within the block, every dropout of `model`, attention's too, draws from `generator`; afterwards all is as before.

    Parameters and their names are untouched. A model on a GPU keeps torch's dropout.
    """
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                replaced.append((parent, name, child))
                setattr(parent, name, SeededDropout(child.p, generator).train(child.training))
    config: Any = model.config
    implementation = config._attn_implementation
    if implementation == "sdpa":
        config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = implementation
        for parent, name, child in replaced:
            setattr(parent, name, child)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention, [batch, heads, tokens, head width] to [batch, tokens, heads, head width].

    While training the steps are written out: with a mask, torch's fused CPU kernel has a slow backward in bf16.
    """
    if not module.training:
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
        return context.transpose(1, 2), None
    scores = masked(_products(query, key) * (scaling or query.shape[-1] ** -0.5), attention_mask)
    attention = scores.softmax(-1).to(value.dtype)
    own = getattr(module, "dropout", None)
    if dropout and isinstance(own, SeededDropout):
        attention = drop(attention, dropout, own.generator)
    return _mixed(attention, value).transpose(1, 2), None


def _products(query: Tensor, key: Tensor) -> Tensor:
    """Q K^T. One query (`models.cls_only`) takes sums, in float32: oneDNN keeps kernels for each width of batch."""
    if query.shape[-2] > 1:
        return query @ key.transpose(-1, -2)
    return (query.float() * key).sum(-1).unsqueeze(-2)


def _mixed(attention: Tensor, value: Tensor) -> Tensor:
    """Attention times values, summed likewise."""
    if attention.shape[-2] > 1:
        return attention @ value
    return (attention.float().transpose(-1, -2) * value).sum(-2, keepdim=True).to(value.dtype)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)
