"""Pieces of HTML. Everything that is not written here in the source passes through `escape`."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pandas as pd

from kdcore.figures.template import Figure, summary
from kdcore.formatting import one_line
from kdcore.report import latex
from kdcore.report.mathml import mathml

Build = Callable[[bool], Figure]
"""Draws a figure for a light page (False) or a dark one (True)."""


def escape(text: object, longest: int = 2000) -> str:
    """Text as HTML shows it letter by letter: no markup, no control characters, no change of direction."""
    return html.escape(one_line(text, longest), quote=True)


def paragraph(text: object, kind: str = "") -> str:
    return f"<p{_attribute('class', kind)}>{escape(text, 5000)}</p>"


def prose(text: str, opening: str = "") -> str:
    """A paragraph of a docstring: what stands between backticks is code."""
    return f"<p>{f'<strong>{escape(opening)}</strong> ' if opening else ''}{_code_spans(text)}</p>"


def bullets(items: Iterable[tuple[str, str]]) -> str:
    """A list of topics, each with its sentences from a docstring."""
    lines = (f"<li><strong>{escape(topic)}</strong>: {_code_spans(text)}</li>" for topic, text in items)
    return f'<ul class="topics">{"".join(lines)}</ul>'


def formula(text: str, names: Collection[str], stage: str = "") -> str:
    """A line of a loss, set by the browser; as it was written where it is no formula. names: words in it."""
    parts = latex.lines(text, names)
    set_ = "<br>".join(map(mathml, parts)) if parts else escape(text)
    return f'<p class="formula">{escape(stage)}{": " if stage else ""}{set_}</p>'


def typeset(text: str, names: Collection[str]) -> str:
    """A line of text with the formulas in it set by the browser."""
    return "".join(
        f'<span class="math">{mathml(piece.text)}</span>' if piece.math else _escape_with_spaces(piece.text)
        for piece in latex.pieces(text, names)
    )


def heading(level: int, text: object, anchor: str = "") -> str:
    return f"<h{level}{_attribute('id', anchor)}>{escape(text)}</h{level}>"


def listing(lines: Iterable[tuple[str, object]], names: Collection[str] = ()) -> str:
    """Name and words of each line; lines without words are left out. names: words of formulas, where there are some."""
    rows = [
        f"<dt>{escape(name)}</dt><dd>{typeset(str(text), names) if names else escape(text)}</dd>"
        for name, text in lines
        if text not in (None, "")
    ]
    return f"<dl>{''.join(rows)}</dl>"


def table(frame: pd.DataFrame, caption: str) -> str:
    """A table whose first column names its rows; a reader with a keyboard can scroll it sideways."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in frame.columns)
    rows = "".join(_row(cells) for cells in frame.astype(object).itertuples(index=False, name=None))
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(cells: tuple[object, ...]) -> str:
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
    return f'<tr><th scope="row">{escape(cells[0])}</th>{rest}</tr>'


def figure(build: Build, caption: str, numbers: pd.DataFrame) -> str:
    """A plot in both modes, what it shows in words, and its numbers one click below."""
    light, dark = build(False), build(True)
    both = {"light": json.loads(light.to_json()), "dark": json.loads(dark.to_json())}
    return (
        f'<figure><div class="plot" role="img" aria-label="{escape(summary(light))}" '
        f'style="height:{int(light.layout.height)}px"></div>'
        f'<script type="application/json">{inert(both)}</script>'
        f"<figcaption>{escape(caption)}</figcaption>"
        f"<details><summary>Numbers</summary>{table(numbers, caption)}</details></figure>"
    )


def inert(data: Any) -> str:
    """JSON that no HTML parser takes for markup."""
    return json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _code_spans(text: str) -> str:
    """Text in which what stands between backticks is code."""
    pieces = text.split("`")
    return "".join(
        f"<code>{escape(piece)}</code>" if index % 2 else _escape_with_spaces(piece)
        for index, piece in enumerate(pieces)
    )


def _escape_with_spaces(text: str) -> str:
    """`escape` that keeps the spaces at both ends."""
    return escape(text, 5000).join((" " * text.startswith(" "), " " * (text.endswith(" ") and text.strip() != "")))


def _attribute(attribute: str, value: str) -> str:
    return f' {attribute}="{escape(value)}"' if value else ""
