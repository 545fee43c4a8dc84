"""The words of a sentence, shaded by what each adds to a model's answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from kdcore.figures import palette
from kdcore.figures.template import INK, frame, plain

Line = tuple[str, list[str], list[float]]
"""Name of a model, words and their values."""

WORDS_A_LINE = 5
"""So that a word can be read on a telephone."""
LONGEST = 9
"""Letters of a word that are written; the hover has all."""


def word_map(
    tokens: Sequence[str], values: Mapping[str, ArrayLike], title: str, *, top: float, dark: bool = False
) -> go.Figure:
    """The sentence in lines of `WORDS_A_LINE` words, each line once per model, one colour scale for all.

    Args:
        values: name of a model -> [tokens], signed. top: end of the colour scale, on either side of 0.

    Raises:
        ValueError: a model's values are not one per token.
    """
    rows = {name: np.asarray(row, dtype=np.float64) for name, row in values.items()}
    if any(row.shape != (len(tokens),) for row in rows.values()):
        raise ValueError(f"{len(tokens)} tokens, but values of {[row.shape for row in rows.values()]}")
    lines = list(_lines(tokens, rows))
    figure = frame("", "", dark=dark, height=110 + 26 * max(2, len(lines)), title=title)
    figure.add_trace(
        go.Heatmap(
            z=[_pad(numbers, np.nan) for _, _, numbers in lines],
            x=list(range(WORDS_A_LINE)),
            y=list(range(len(lines))),
            text=[_pad(map(_short, said), "") for _, said, _ in lines],
            texttemplate="%{text}",
            customdata=[_pad(_hover(*line), "") for line in lines],
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
            zmin=-top,
            zmax=top,
            zmid=0,
            colorscale=palette.diverging(dark),
            colorbar={
                "orientation": "h", "y": 0, "yanchor": "top", "len": 0.5, "thickness": 8, "outlinewidth": 0,
                "tickfont": {"color": INK[dark], "size": 10}, "nticks": 5,
            },
        )
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.5, WORDS_A_LINE - 0.5])
    names = [plain(name) for name, _, _ in lines]
    figure.update_yaxes(
        autorange="reversed", showgrid=False, zeroline=False, ticks="", tickvals=list(range(len(names))), ticktext=names
    )
    return figure


def shared_top(*values: ArrayLike) -> float:
    """End of a scale that holds for all of them: the largest absolute value; 1 where all are 0."""
    tops = [float(np.abs(np.asarray(row, dtype=np.float64)).max(initial=0.0)) for row in values]
    return max(tops, default=0.0) or 1.0


def _lines(tokens: Sequence[str], values: Mapping[str, NDArray[np.float64]]) -> Iterator[Line]:
    """What stands in each row of the figure; an empty one lies between two lines of the sentence."""
    for start in range(0, len(tokens), WORDS_A_LINE):
        part = slice(start, start + WORDS_A_LINE)
        if start:
            yield "", [], []
        for name, row in values.items():
            yield name, list(tokens[part]), row[part].tolist()


def _hover(name: str, tokens: Sequence[str], values: Sequence[float]) -> list[str]:
    return [f"{plain(token)}, {plain(name)}: {value:+.3f}" for token, value in zip(tokens, values, strict=True)]


def _pad(cells: Iterable[Any], fill: object) -> list[Any]:
    line = list(cells)
    return [*line, *[fill] * (WORDS_A_LINE - len(line))]


def _short(word: str) -> str:
    return plain(word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…")
