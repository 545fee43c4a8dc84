"""A tiny masked language model in a folder, as transformers saves it. A plain module, for tests of several rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kdcore.models.tokenizers import save_tokenizer, tokenizer_from_vocabulary


def model(vocabulary: int, family: str = "bert", seed: int = 0, **sizes: Any) -> Any:
    """transformers' own class, with new weights that are large enough for words to differ."""
    from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

    known = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    } | sizes
    if family == "distilbert":
        names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
                 "intermediate_size": "hidden_dim"}  # fmt: skip
        known = {names.get(name, name): value for name, value in known.items()}
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    built = DistilBertForMaskedLM(DistilBertConfig(**known)) if family == "distilbert" else BertForMaskedLM(
        BertConfig(**known)
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    torch.set_rng_state(before)
    return built.eval()


def write(
    folder: Path,
    vocabulary: Sequence[str],
    family: str = "bert",
    encoder: Mapping[str, torch.Tensor] | None = None,
    **sizes: Any,
) -> str:
    """Writes model and tokenizer; the string that names them as a source. encoder: weights in place of new ones."""
    built = model(len(vocabulary), family, **sizes)
    if encoder is not None:
        built.load_state_dict(encoder, strict=False)
    built.save_pretrained(str(folder))
    save_tokenizer(tokenizer_from_vocabulary(vocabulary), folder)
    return f"folder:{folder}"
