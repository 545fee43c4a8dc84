"""What a method says beside its losses: how often each teacher was drawn, and other read-outs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from kdcore.analysis.series import Series
from kdcore.figures import palette
from kdcore.figures.curves import X_TITLES, Line, Look, line, trace
from kdcore.figures.smoothing import thin
from kdcore.figures.template import frame, plain

DRAWS, CHANCE, NOTE = "draws", "chance", "note"
_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot", "dot")


def families(names: Iterable[str]) -> dict[str, list[str]]:
    """`draws/large` and `draws/small` belong together: family -> its names, in the order they were logged.

    A teacher's chance of being drawn stands with its draws.
    """
    out: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        family = name.partition("/")[0]
        out.setdefault(DRAWS if family == CHANCE else family, []).append(name)
    return out


def draws(lines: Sequence[Line], dark: bool = False) -> go.Figure:
    """The share of steps that each teacher taught so far, beside the chance it was given (thin).

    Args:
        lines: from `draw_lines`.
    """
    figure = _figure("Share of steps so far (%)", lines, dark)
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_lines(logged: Series, dark: bool = False) -> list[Line]:
    """The lines of `draws`: for each teacher its chance and its share, in percent.

    Args:
        logged: what one run has logged; its notes are read.
    """
    names = [name.partition("/")[2] for kind, name in logged if kind == NOTE and name.startswith(f"{DRAWS}/")]
    lines = []
    for index, name in enumerate(names):
        color = palette.term_color(index, dark)
        for family, title, width, dash in ((CHANCE, "chance", 1.0, "dot"), (DRAWS, "drawn", 2.5, _dash(index))):
            if (NOTE, f"{family}/{name}") not in logged:
                continue
            xs, ys = thin(*logged[NOTE, f"{family}/{name}"])
            label = f"{plain(name)}, {title}"
            hover = f"{label} %{{y:.1f}}<extra></extra>"
            look = Look(label, color, dash, width, legend=family == DRAWS, group=name, hover=hover)
            lines.append(line(look, xs, 100 * ys))
    return lines


def readings(lines: Sequence[Line], family: str, dark: bool = False) -> go.Figure:
    """The read-outs of one family over the steps, one line each.

    Args:
        lines: from `reading_lines`.
    """
    figure = _figure(plain(family.replace("_", " ")).capitalize(), lines, dark)
    figure.update_layout(showlegend=True)
    return figure


def reading_lines(logged: Series, family: str, dark: bool = False) -> list[Line]:
    """The lines of `readings`."""
    names = families(name for kind, name in logged if kind == NOTE).get(family, [])
    return [
        line(
            Look(
                plain(name.partition("/")[2] or name),
                palette.term_color(index, dark),
                _dash(index),
                hover="%{y:.4g}",
            ),
            *thin(*logged[NOTE, name]),
        )
        for index, name in enumerate(names)
    ]


def _figure(title: str, lines: Sequence[Line], dark: bool) -> go.Figure:
    figure = frame(X_TITLES["step"], title, dark=dark, height=300)
    figure.add_traces([trace(line_) for line_ in lines])
    figure.update_layout(hovermode="x unified")
    return figure


def _dash(index: int) -> str:
    return _DASHES[index % len(_DASHES)]
