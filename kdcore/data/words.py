"""The words of a text, for models that cut it into different pieces: what is between white space is one word to all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.records import NO_WORD


def word_numbers(piece: Any, texts: Sequence[str]) -> NDArray[np.int32]:
    """The word of its text that each token of a row is a piece of, from 0: int32 [tokens]. A pair's second sentence
    counts on from the first.

    Args:
        piece: the row's `tokenizers.Encoding`; its offsets count characters of the text. texts: a sentence, or two.

    Raises:
        ValueError: the tokenizer does not say where in the text its tokens are.

    >>> from types import SimpleNamespace
    >>> row = SimpleNamespace(sequence_ids=[None, 0, 0, 0, None], offsets=[(0, 0), (0, 2), (2, 3), (4, 5), (0, 0)])
    >>> word_numbers(row, ["ab? c"]).tolist()
    [-1, 0, 0, 1, -1]
    """
    if piece is None:
        raise ValueError("a tokenizer in Python does not say where its tokens are")
    places, first = [], 0
    for text in texts:
        numbers = _numbers(text)
        places.append(first + numbers)
        first += int(numbers.max(initial=-1)) + 1
    words = np.full(len(piece.offsets), NO_WORD, np.int32)
    for token, (part, (start, end)) in enumerate(zip(piece.sequence_ids, piece.offsets, strict=True)):
        if part is not None and end > start:
            words[token] = places[part][end - 1]  # byte-level tokens may begin with the space before a word
    return words


def pieces_of(words: NDArray[np.int32], shared: NDArray[np.int32]) -> NDArray[np.float32]:
    """1 / pieces where a token is a piece of a word, else 0: float32 [words, tokens]; times states it is their mean.

    Args:
        words: of each token. shared: numbers of the words that are asked for.
    """
    belongs = shared[:, None] == words[None, :]
    result: NDArray[np.float32] = (belongs / belongs.sum(1, keepdims=True).clip(1)).astype(np.float32)
    return result


def shared_words(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int32]:
    """The words of which both readings of a row hold a piece: a long row may be cut earlier in one of them."""
    both: NDArray[np.int32] = np.intersect1d(first, second)
    words: NDArray[np.int32] = both[both != NO_WORD]
    return words


def spell(tokens: Sequence[str], words: NDArray[np.int32], shared: NDArray[np.int32]) -> list[str]:
    """Each word as its pieces spell it.

    Args:
        tokens, words: the pieces of a row, and the word that each is of. shared: numbers of the words asked for.
    """
    bare = [token.removeprefix("##").removeprefix("Ġ") for token in tokens]  # marks of WordPiece and byte-level pairs
    return ["".join(piece for piece, word in zip(bare, words, strict=True) if word == number) for number in shared]


def _numbers(text: str) -> NDArray[np.int32]:
    """The word that each character is of; spaces count to the word before them, or to the first."""
    space = np.array([character.isspace() for character in text], bool)
    starts = ~space & np.concatenate([[True], space[:-1]]) if len(text) else space
    return (np.cumsum(starts) - 1).clip(0).astype(np.int32)
