"""Tokenizers: from a folder, from a list of tokens, and their identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore.errors import UserError
from kdcore.models.library import transformers
from kdcore.models.sizes import usable_positions
from kdcore.records import Encoding

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
"""A folder holds one of these, or it has no vocabulary and transformers would make up one of five tokens."""


def encode_typed(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, sentence: str, pair: str | None = None, max_length: int = 128
) -> Encoding:
    """A sentence or pair that a person typed, as the model reads it, on the model's device: [1, tokens].

    Args:
        max_length: tokens kept, never more than the model has positions.

    Raises:
        UserError: the sentence is empty.
    """
    import torch

    if not sentence.strip():
        raise UserError("sentence", "there is nothing to read", "type a sentence")
    longest = min(max_length, usable_positions(model.config))
    coded = tokenizer(sentence, pair or None, truncation=True, max_length=longest)
    ids = torch.tensor([coded["input_ids"]])
    types = torch.tensor([coded["token_type_ids"]]) if "token_type_ids" in coded else torch.zeros_like(ids)
    return Encoding(ids, torch.ones_like(ids), types).to(next(model.parameters()).device)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; no network, no code from the folder.

    Raises:
        UserError: no vocabulary there, or one that cannot be read.
    """
    folder = Path(folder)
    if not any((folder / name).is_file() for name in _FILES):
        raise UserError("tokenizer", f"{folder} holds no vocabulary", f"it needs one of {', '.join(_FILES)}")
    try:
        tokenizer = transformers().AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the readers of tokenizers raise bare Exception
        raise UserError(
            "tokenizer", f"the tokenizer in {folder} cannot be read: {str(error)[:200]}", "save it again"
        ) from error
    _check_size(tokenizer, folder)
    return tokenizer


def tokenizer_from_vocabulary(tokens: Sequence[str]) -> PreTrainedTokenizerBase:
    """A lower-casing WordPiece tokenizer over these tokens, ids in their order.

    Raises:
        UserError: tokens that repeat, or without [PAD], [UNK], [CLS], [SEP] and [MASK].
    """
    vocabulary = {token: index for index, token in enumerate(tokens)}
    missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token not in vocabulary]
    if missing or len(vocabulary) != len(tokens):
        raise UserError("vocabulary", f"tokens repeat or lack {missing}", "list each token once, special ones included")
    # `vocab_file=` would be ignored in silence: five tokens, every word [UNK]
    tokenizer = transformers().BertTokenizerFast(vocab=vocabulary, model_max_length=512)
    if len(tokenizer) != len(tokens):
        raise UserError(
            "vocabulary", f"{len(tokens)} tokens became {len(tokenizer)}", "check the version of transformers"
        )
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: str | Path) -> None:
    """Writes the tokenizer's files into `folder`."""
    tokenizer.save_pretrained(str(folder))


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 (hex) of what decides the ids: vocabulary, normaliser, splitter, model and special tokens.

    Truncation and padding are left out, because calling a tokenizer changes them.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        content: dict[str, Any] = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content.pop("truncation", None)
        content.pop("padding", None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_size(tokenizer: Any, folder: Path) -> None:
    listed = folder / "vocab.txt"
    if not listed.is_file() or (folder / "tokenizer.json").is_file():
        return
    lines = sum(1 for line in listed.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(tokenizer) < lines:
        raise UserError("tokenizer", f"read {len(tokenizer)} of {lines} tokens from {listed}", "add a tokenizer.json")
