"""Tiny random models of every family that `observe` takes, with weights large enough for attention to have a shape."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from kdcore.models.weights import build_classifier
from kdcore.records import Encoding

VOCABULARY = 40


def tiny_config(family: str, labels: int = 3, layers: int = 2):
    from transformers import BertConfig, DistilBertConfig, ElectraConfig, MPNetConfig, RobertaConfig

    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "max_position_embeddings": 20,
        "num_labels": labels,
        "initializer_range": 0.5,
    }
    if family == "bert":
        return BertConfig(**sizes)
    if family == "roberta":
        return RobertaConfig(**sizes, type_vocab_size=1, pad_token_id=1)
    if family == "mpnet":
        return MPNetConfig(**sizes)
    if family in ("electra", "electra-wide"):
        return ElectraConfig(**sizes, embedding_size=8 if family == "electra" else 16)
    return DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=16,
        n_layers=layers,
        n_heads=4,
        hidden_dim=24,
        max_position_embeddings=20,
        num_labels=labels,
        initializer_range=0.5,
    )


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    def build(family: str = "bert", labels: int = 3, layers: int = 2, seed: int = 0) -> nn.Module:
        return build_classifier(tiny_config(family, labels, layers), {}, seed)[0]

    return build


@pytest.fixture
def encoding() -> Encoding:
    """Three rows of 7, 4 and 1 tokens, padded on the right with id 1 (RoBERTa's and MPNet's padding)."""
    lengths = torch.tensor([7, 4, 1])
    mask = (torch.arange(7)[None, :] < lengths[:, None]).long()
    ids = torch.randint(3, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(1))
    types = (torch.arange(7)[None, :] >= 3).long() * mask
    return Encoding(torch.where(mask == 1, ids, 1), mask, types)
