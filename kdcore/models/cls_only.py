"""Compute of a model's last layer only what a classifier reads: the state of [CLS].

Logits, `pooled` and the last [CLS] state depend on one token of the last layer. Keys and values of that layer are
needed of all tokens; queries, attention, output projection, feed-forward and both normalisations of the first one
alone. Of a layer's 12 width^2 products a token that leaves 2, forward and backward, and of a 3-layer student's step
about a fifth goes. What is computed is what the whole layer would give, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from kdcore.models.anatomy import Anatomy, LayerParts
from kdcore.records import ALL_LAYERS, Want


def reads_cls_alone(wanted: Want, depth: int) -> bool:
    """Whether nothing of layer `depth`, the last, is wanted but its [CLS] state."""
    return all(name == "cls" or not {depth, *ALL_LAYERS}.intersection(layers) for name, layers in wanted.items())


@contextmanager
def cls_only(parts: Anatomy) -> Iterator[None]:
    """Within the block the last layer gives [batch, 1, width], the state of [CLS]; afterwards all is as before."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # its import takes seconds

    last = parts.layers[-1]
    config = getattr(last.heads, "config", None)
    attend = ALL_ATTENTION_FUNCTIONS.get(config._attn_implementation) if config else None
    if attend is None:  # eager attention is each family's own, and MPNet's always is; such a model runs as it is
        yield
        return
    module: Any = last.module
    module.forward = partial(_first_state, parts, last, attend)
    try:
        yield
    finally:
        del module.forward  # the class's own comes to light again


def _first_state(
    parts: Anatomy, layer: LayerParts, attend: Any, hidden: Tensor, attention_mask: Tensor | None = None,
    *_: Any, **__: Any,
) -> Tensor:  # fmt: skip
    """The layer's output at token 0. hidden: [batch, tokens, width]; the mask's last two axes are queries and keys."""
    first = hidden[:, :1]
    context, _weights = attend(
        layer.heads,
        parts.split_heads(layer.queries(first)),
        parts.split_heads(layer.keys(hidden)),
        parts.split_heads(layer.values(hidden)),
        None if attention_mask is None else attention_mask[:, :, :1],
        dropout=layer.heads.dropout.p if layer.module.training else 0.0,
        scaling=layer.heads.scaling,
    )
    return layer.feed_forward(layer.after_heads(context.reshape(first.shape), first))
