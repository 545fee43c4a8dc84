"""Whether a tokenizer belongs to a model, and whether two tokenizers read a sentence alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdcore.errors import UserError

_PROBES = (
    "Good Café IT",
    "don't re-read 1,234.5% of it",
    "naïve Ünïcode ﬁ ½",
    "東京 tower",
    "tab\tand  spaces",
    "AB cd",
)
"""Sentences on which usual tokenizers differ: case, accents, punctuation, digits, Chinese characters, white space."""

_SPECIAL = {"cls_token_id": "[CLS]", "sep_token_id": "[SEP]", "pad_token_id": "[PAD]"}


def check_tokenizer(tokenizer: Any, vocabulary: int, field: str, name: str) -> None:
    """Raises UserError where the tokenizer gives ids that the model has no row for, or lacks a special token.

    Args:
        vocabulary: rows of the model's table of word embeddings.
        name: what the model is called in the message.
    """
    words = tokenizer.get_vocab()
    last = max(words, key=words.__getitem__)
    if words[last] >= vocabulary:
        raise UserError(
            field,
            f"the tokenizer of {name} gives {last[:40]!r} the id {words[last]}, and its table of word embeddings has "
            f"{vocabulary} rows",
            "use the tokenizer that the model was saved with, or save the model after resize_token_embeddings(...)",
        )
    missing = [token for attribute, token in _SPECIAL.items() if getattr(tokenizer, attribute) is None]
    if missing:
        raise UserError(
            field,
            f"the tokenizer of {name} has no {' and no '.join(missing)}",
            "add tokenizer_config.json and special_tokens_map.json, or save the tokenizer again",
        )
    ids = tokenizer("a")["input_ids"]
    if ids[:1] != [tokenizer.cls_token_id] or ids[-1:] != [tokenizer.sep_token_id]:
        raise UserError(
            field,
            f"the tokenizer of {name} does not put {tokenizer.cls_token} before a sentence and {tokenizer.sep_token} "
            "after it, and the classifier reads the first token",
            "add the post_processor to tokenizer.json, or use the tokenizer that the model was trained with",
        )


def reads_alike(first: Any, second: Any) -> bool:
    """Whether one encoding of a sentence serves the models of both tokenizers."""
    if first is second:
        return True
    return first.get_vocab() == second.get_vocab() and difference(first, second) is None


def difference(first: Any, second: Any) -> tuple[str, list[str], list[str]] | None:
    """A sentence that two tokenizers of one vocabulary read differently, and as which words each does; None: there is
    none."""
    for sentence in _PROBES:
        ours, theirs = _reading(first, sentence), _reading(second, sentence)
        if ours != theirs:
            return sentence, ours[0], theirs[0]
    return None


def states_case(folder: Path) -> bool:
    """Whether a model folder says itself whether its words are read in lower case, or that is a default's doing."""
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    return (folder / "tokenizer.json").is_file() or (isinstance(settings, dict) and "do_lower_case" in settings)


def unread_words(tokenizer: Any) -> list[str]:
    """Words of the vocabulary in upper case, where the tokenizer reads every word in lower case; sorted."""
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    upper = sorted(
        word for word in tokenizer.get_vocab() if word not in special and word.isalpha() and word != word.lower()
    )
    lost = bool(upper) and "".join(_reading(tokenizer, upper[0])[0]) != upper[0]
    return upper if lost else []


def _reading(tokenizer: Any, sentence: str) -> tuple[list[str], list[int], list[int]]:
    """The sentence's words before they are looked up, its ids, and those of a pair."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = [sentence] if backend is None else _word_list(backend, sentence)
    return words, tokenizer(sentence)["input_ids"], tokenizer(sentence, sentence)["input_ids"]


def _word_list(backend: Any, sentence: str) -> list[str]:
    normal = backend.normalizer.normalize_str(sentence) if backend.normalizer else sentence
    pieces = backend.pre_tokenizer.pre_tokenize_str(normal) if backend.pre_tokenizer else [(normal, None)]
    return [word for word, _ in pieces]
