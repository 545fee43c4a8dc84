"""A student's own small vocabulary: learned from the task's training texts once, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdcore import paths
from kdcore.data.splits import TaskData
from kdcore.data.vocabulary import INSIDE, SPECIAL, train_vocabulary
from kdcore.models.tokenizers import tokenizer_from_vocabulary

UNKNOWN_ROWS = 2000
"""Rows of a split whose tokens are looked at: a share within two points."""

RECIPE = 1
"""Counts up where `train_vocabulary` comes to give other pieces for the same texts."""


def own_tokenizer(data: TaskData, pieces: int) -> Any:
    """The tokenizer of a vocabulary of so many pieces, learned from the task's training texts: all of them, whatever
    part of the rows a run learns from.
    """
    texts = [text for column in data.train.texts for text in column]
    file = _file(texts, pieces)
    tokens = _kept(file)
    if tokens is None:
        tokens = train_vocabulary(texts, pieces)
        _keep(file, tokens)
    return tokenizer_from_vocabulary(tokens)


def unknown_share(data: TaskData, tokenizer: Any) -> float:
    """Share of the tokens of the task's texts that the tokenizer does not know, 0 to 1; of training and dev rows.

    [CLS] and [SEP] are not counted.
    """
    unknown = total = 0
    for name in ("train", *data.task.splits):
        split = data.splits[name]
        chosen = np.linspace(0, len(split) - 1, min(UNKNOWN_ROWS, len(split))).astype(np.int64)
        texts = [text for column in split.take(chosen).texts for text in column]
        ids = np.concatenate([np.asarray(row) for row in tokenizer(texts, add_special_tokens=False)["input_ids"]])
        unknown, total = unknown + int((ids == tokenizer.unk_token_id).sum()), total + len(ids)
    return unknown / max(1, total)


def source_words(own: Any, source: Any) -> list[list[int]]:
    """For each id of an own vocabulary, the ids of the source's tokens that it stands for, at least one.

    A piece that the source has is that piece. Any other is what the source's tokenizer cuts it into; the marks of a
    continuation are left out then.
    """
    theirs: dict[str, int] = source.get_vocab()
    marks = any(token.startswith(INSIDE) for token in theirs)
    special = {
        own.pad_token: source.pad_token_id, own.unk_token: source.unk_token_id, own.cls_token: source.cls_token_id,
        own.sep_token: source.sep_token_id, own.mask_token: source.mask_token_id,
    }  # fmt: skip
    unknown = source.unk_token_id
    ids: dict[str, int] = own.get_vocab()
    words = []
    for token in sorted(ids, key=ids.__getitem__):
        if token in special:
            found = [special[token]]
        elif marks and token in theirs:
            found = [theirs[token]]
        else:
            # Byte-level tokenizers read a word behind a space as another one.
            text = token.removeprefix(INSIDE) if token.startswith(INSIDE) else f" {token}"
            found = source(text, add_special_tokens=False)["input_ids"]
        words.append([unknown if each is None else each for each in found] or [unknown])
    return words


def _file(texts: Sequence[str], pieces: int) -> Path:
    """Its name follows from all that decides the pieces."""
    digest = hashlib.sha256(json.dumps([RECIPE, pieces]).encode())
    for text in texts:
        digest.update(text.encode(errors="replace") + b"\0")
    return paths.cache_subdir("vocabularies") / f"{digest.hexdigest()[:32]}.json"


def _kept(file: Path) -> tuple[str, ...] | None:
    """The kept pieces; None where there are none, or no whole file."""
    try:
        tokens = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
    return tuple(tokens) if whole and tuple(tokens[: len(SPECIAL)]) == SPECIAL else None


def _keep(file: Path, tokens: Sequence[str]) -> None:
    """Whole or not at all."""
    partial = file.with_suffix(f".{uuid.uuid4().hex[:8]}.partial")
    partial.write_text(json.dumps(list(tokens), ensure_ascii=False), encoding="utf-8")
    os.replace(partial, file)
