"""The tensors that can be observed of a model, and how a method says which of them it reads."""

from __future__ import annotations

from collections.abc import Mapping

TENSORS: dict[str, str] = {
    "logits": "[batch, classes]",
    "pooled": "[batch, width]: the pooler's output, before dropout and classifier",
    "cls": "layer -> [batch, width]: the [CLS] state (layer 0 is the embedding output)",
    "hidden": "layer -> [batch, tokens, width]",
    "embeddings": "[batch, tokens, width]: word embeddings alone",
    "queries": "layer -> [batch, heads, tokens, head width]",
    "keys": "layer -> [batch, heads, tokens, head width]",
    "values": "layer -> [batch, heads, tokens, head width]",
    "scores": "layer -> [batch, heads, tokens, tokens]: Q K^T / sqrt(head width), before mask and softmax, float32",
    "attention": "layer -> [batch, heads, tokens, tokens]: softmax of the masked scores, before dropout, float32",
    "head_outputs": "layer -> [batch, tokens, width]: heads side by side, before the output projection",
}
"""Every tensor a method may ask for, with its shape. Layers count from 1; `cls` and `hidden` also have layer 0.

The logits follow from `embeddings`, `hidden`, `head_outputs` and (in BERT, as every student is one) `pooled`, so they
can be differentiated with respect to them. The others are side branches: in place of `cls` take the gradient of
`hidden` at the first token.
"""

ROW_LEVEL = frozenset({"logits", "pooled", "cls"})
"""Those with one value or vector a row: models that cut a text into other tokens can be compared by them alone."""

ALL_LAYERS: tuple[int, ...] = (-1,)
"""In place of a list of layers: every layer there is."""

Want = Mapping[str, tuple[int, ...]]
"""Tensor name -> layers (empty for tensors that have none)."""


def want(*names: str, **layers: tuple[int, ...] | list[int]) -> dict[str, tuple[int, ...]]:
    """`want("logits", cls=(2, 4))`: names without layers, then names with the layers they are read at."""
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(names, ())
    wanted.update({name: tuple(chosen) for name, chosen in layers.items()})
    unknown = sorted(set(wanted) - set(TENSORS))
    if unknown:
        raise ValueError(f"unknown tensors {unknown}; known are {sorted(TENSORS)}")
    return wanted
