"""Tokens that stand for no text, told from a vocabulary alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdcore.errors import UserError

MASKS = ("[MASK]", "<mask>")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "<pad>", "</s>", "<mask>")


@dataclass(frozen=True)
class SpecialTokens:
    """size: of the vocabulary. ids: those that are no words. mask: the one that hides a piece."""

    size: int
    ids: tuple[int, ...]
    mask: int


def special_tokens(tokens: Sequence[str]) -> SpecialTokens:
    """Those of a vocabulary, which is the token of each id.

    Raises:
        UserError: it has no token that hides a piece.
    """
    mask = next((place for place, token in enumerate(tokens) if token in MASKS), None)
    if mask is None:
        raise UserError("teachers", "a vocabulary of this run has no [MASK]", "choose a teacher that has one")
    return SpecialTokens(len(tokens), tuple(place for place, token in enumerate(tokens) if token in SPECIAL), mask)
