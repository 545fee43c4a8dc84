"""Texts whose words are cut by two tokenizers at once, and pieces that are hidden in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kdcore.losses.vocabulary import IGNORE_INDEX
from kdcore.records import NO_WORD, Encoding


@dataclass(frozen=True)
class MixedText:
    """Rows in two id spaces, padded on the right. All are [batch, tokens].

    ids: int64, of the vocabulary that a piece is of. small: bool, whether that is the small one. types: token types.
    mask: 1 = a token. words: the word that a piece is of, -1 of special tokens and padding.
    """

    ids: Tensor
    small: Tensor
    types: Tensor
    mask: Tensor
    words: Tensor


def draws(seed: int, ids: Tensor, step: int) -> list[np.random.Generator]:
    """A generator for each row, which does not depend on the other rows: of seed, the row's id and the step."""
    return [np.random.default_rng((seed, abs(row), step)) for row in ids.tolist()]


def mix(
    large: Encoding, small: Encoding, chance: float, rngs: Sequence[np.random.Generator], longest: int
) -> MixedText:
    """The text of the large vocabulary in which each word is cut by the small one with this chance.

    All pieces of a word are of one vocabulary. A word that the small reading has lost, because it is cut earlier, stays
    as it is, and so do special tokens.

    Args:
        large, small: the same rows by both tokenizers, with words. rngs: one a row. longest: tokens kept of a row.
    """
    rows = [_mixed_row(_real(large, row), _real(small, row), chance, rng)[:longest] for row, rng in enumerate(rngs)]
    width = max(map(len, rows))
    table = torch.tensor([row + [(0, 0, 0, 0, NO_WORD)] * (width - len(row)) for row in rows], dtype=torch.int64)
    ids, small_ids, types, mask, words = table.to(large.input_ids.device).unbind(-1)
    return MixedText(ids, small_ids.bool(), types, mask, words)


def hide(words: Tensor, chance: float, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Which pieces are hidden: each with this chance, and at least one of a row that has any; bool [batch, tokens].

    Args:
        words: of each token the number of its word, -1 of special tokens and padding, which are never hidden.
    """
    chosen = np.zeros(words.shape, bool)
    for row, (numbers, rng) in enumerate(zip(words.cpu().numpy(), rngs, strict=True)):
        places = np.flatnonzero(numbers != NO_WORD)
        if len(places):
            lots = rng.random(len(places))
            chosen[row, places] = (lots < chance) | (lots == lots.min())
    return torch.from_numpy(chosen).to(words.device)


def targets(ids: Tensor, where: Tensor) -> Tensor:
    """The words that are asked for, int64 [batch, tokens]; `losses.vocabulary.IGNORE_INDEX` elsewhere."""
    return torch.where(where, ids, IGNORE_INDEX)


def with_words(encoding: Encoding, special: Sequence[int]) -> Encoding:
    """The encoding with words: where it tells none, each token that is not special is a word of its own."""
    if encoding.words is not None:
        return encoding
    ids = encoding.input_ids
    word = encoding.attention_mask.bool() & ~torch.isin(ids, torch.tensor(list(special), device=ids.device))
    return replace(encoding, words=torch.where(word, word.cumsum(1) - 1, NO_WORD))


_Piece = tuple[int, int, int, int, int]
"""Id, whether it is of the small vocabulary, token type, 1, word."""


def _real(encoding: Encoding, row: int) -> list[tuple[int, int, int]]:
    """Id, token type and word of a row's tokens."""
    assert encoding.words is not None, "words are told by `with_words`"
    there = int(encoding.attention_mask[row].sum())
    columns = (encoding.input_ids, encoding.token_type_ids, encoding.words)
    return list(zip(*(column[row, :there].tolist() for column in columns), strict=True))


def _mixed_row(
    large: list[tuple[int, int, int]], small: list[tuple[int, int, int]], chance: float, rng: np.random.Generator
) -> list[_Piece]:
    pieces: dict[int, list[int]] = {}
    for token, _, word in small:
        pieces.setdefault(word, []).append(token)
    coins = rng.random(1 + max((word for _, _, word in large), default=0)) < chance
    row: list[_Piece] = []
    last = NO_WORD
    for token, kind, word in large:
        if word == NO_WORD or not coins[word] or word not in pieces:
            row.append((token, 0, kind, 1, word))
        elif word != last:
            row.extend((piece, 1, kind, 1, word) for piece in pieces[word])
        last = word
    return row
