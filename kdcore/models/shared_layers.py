"""Parameter sharing between layers: a model that runs some of its layers a second time (Pea-KD's SPS)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

SWAPPED = {"query": "key", "key": "query"}


def run_again(model: nn.Module, layers: Sequence[int], swap: bool) -> nn.Module:
    """Appends these layers (from 1) of a BERT classifier once more, each tied to the one it repeats; returns the model.

    Every repeat is a module of its own whose parameters are those of its original, so hooks, counts and optimisers see
    each once. With `swap`, the queries of the repeat are computed with the original's key weights and the keys with its
    query weights (weights and biases; Cho & Kang 2022, SPS): its raw scores for the same input are the transpose.
    """
    encoder: Any = model.base_model.encoder  # type: ignore[union-attr]
    originals = [encoder.layer[number - 1] for number in layers]
    config = model.config
    for original in originals:
        repeat = copy.deepcopy(original, {id(config): config})  # one config for all: it names the attention that runs
        for name, parameter in original.named_parameters():
            path, _, leaf = name.rpartition(".")
            setattr(repeat.get_submodule(_partner(path) if swap else path), leaf, parameter)
        encoder.layer.append(repeat)
    config.num_hidden_layers = len(encoder.layer)  # type: ignore[union-attr]
    return model


def _partner(path: str) -> str:
    """`attention.self.query` and `attention.self.key` change places."""
    parent, _, name = path.rpartition(".")
    return f"{parent}.{SWAPPED[name]}" if name in SWAPPED else path
