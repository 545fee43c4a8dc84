"""The mean row of a split: one text, which each model reads as a number of tokens of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdcore.data.encode import Encoded
from kdcore.data.splits import Split
from kdcore.models.count import row_length


def mean_row(split: Split, readings: Mapping[str, Encoded]) -> dict[str, Any]:
    """How long it is: `words` between white space, and `tokens`: model -> as the model reads it, cut as in training.

    Args:
        readings: model -> the split's rows in its tokens.
    """
    words = sum(len(text.split()) for column in split.texts for text in column) / max(1, len(split))
    tokens = {name: row_length(float(rows.lengths.mean())) for name, rows in readings.items()}
    return {"words": max(1, round(words)), "tokens": tokens}
