"""Damaged sentences: typos, dropped words and neighbours that changed places, the same ones for every model.

Sarfraz, Arani and Zonooz 2020 (arXiv 2007.01922) ask what distillation gives beyond compression; whether they measure
robustness to damaged inputs is unverified. Kinds and severities are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

SEVERITIES = (0.0, 0.1, 0.2, 0.4)
"""Shares of the words that are damaged."""
EMBEDDINGS = "adversarial embeddings"
"""The kind of damage that is none of words: embeddings moved against the model, see `adversarial`."""
STEPS = (0.0, 0.01, 0.02, 0.05, 0.1)
"""Sizes of that move, relative to the root mean square of the row's word embeddings."""
_SEED = 20_070_192

Words = list[str]
Draws = NDArray[np.float64]


def damaged(texts: Sequence[str], ids: ArrayLike, kind: str, severity: float, column: int = 0) -> list[str]:
    """The texts with about a share `severity` of their words damaged.

    A word is damaged where its own number, drawn from (row id, kind, column) alone, lies below the severity: every
    model meets the same damage, and a larger one holds a smaller one's words. Severity 0 gives back the very texts.

    Args:
        texts: one column of a split [rows]. ids: of the rows [rows]. kind: one of `KINDS`. severity: 0..1.

    Raises:
        ValueError: an unknown kind, or a severity outside 0..1.
    """
    if kind not in KINDS or not 0 <= severity <= 1:
        raise ValueError(f"kind {kind!r} at {severity}: need one of {', '.join(KINDS)}, and a share of 0 to 1")
    if severity == 0:
        return list(texts)
    number = list(KINDS).index(kind)
    rows = zip(texts, np.asarray(ids, np.int64), strict=True)
    return [_damaged(text, KINDS[kind], severity, (_SEED, number, column, int(row))) for text, row in rows]


def _damaged(text: str, damage: Callable[[Words, Draws, float], Words], severity: float, seed: tuple[int, ...]) -> str:
    words = text.split()
    return " ".join(damage(words, np.random.default_rng(seed).random((len(words), 3)), severity))


def _typos(words: Words, draws: Draws, severity: float) -> Words:
    """One slip in each of these words."""
    return [_typo(word, *draw[1:]) if draw[0] < severity else word for word, draw in zip(words, draws, strict=True)]


def _typo(word: str, how: float, where: float) -> str:
    """A letter left out, doubled, or in its neighbour's place; a word of one letter is doubled."""
    if len(word) < 2:
        return word * 2
    place = int(where * (len(word) - 1))
    left, first, second, right = word[:place], word[place], word[place + 1], word[place + 2 :]
    slips = (left + second + right, left + first + first + second + right, left + second + first + right)
    return slips[int(how * len(slips))]


def _dropped(words: Words, draws: Draws, severity: float) -> Words:
    """These words left out; one always stays."""
    kept = [word for word, draw in zip(words, draws[:, 0], strict=True) if draw >= severity]
    return kept or words[int(draws[:, 0].argmax()) :][:1] if words else []


def _swapped(words: Words, draws: Draws, severity: float) -> Words:
    """These words in the place of the next one; none moves twice."""
    result, place = list(words), 0
    while place < len(words) - 1:
        if draws[place, 0] < severity:
            result[place], result[place + 1] = words[place + 1], words[place]
            place += 1
        place += 1
    return result


KINDS = cast(
    dict[str, Callable[[Words, Draws, float], Words]],
    {"typos": _typos, "dropped words": _dropped, "swapped neighbours": _swapped},
)
"""Kind of damage -> what does it to the words of a text."""
