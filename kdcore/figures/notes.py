"""What a method says beside its losses: how often each teacher was drawn, and other read-outs."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from kdcore.figures import palette
from kdcore.figures.curves import X_TITLES, curve
from kdcore.figures.smoothing import thin
from kdcore.figures.template import frame, plain

DRAWS, CHANCE = "draws", "chance"
_LOOKS = ("solid", "dash", "dashdot", "longdash", "longdashdot", "dot")


def families(notes: pd.DataFrame) -> dict[str, list[str]]:
    """`draws/large` and `draws/small` belong together: family -> its names, in the order they were logged.

    A teacher's chance of being drawn stands with its draws.
    """
    out: dict[str, list[str]] = {}
    for name in dict.fromkeys(notes["name"]):
        family = str(name).partition("/")[0]
        out.setdefault(DRAWS if family == CHANCE else family, []).append(str(name))
    return out


def draws(notes: pd.DataFrame, dark: bool = False) -> go.Figure:
    """The share of steps that each teacher taught so far, beside the chance it was given (thin).

    Args:
        notes: rows of one run from `Store.metrics` with kind "note".
    """
    figure = frame(X_TITLES["step"], "Share of steps so far (%)", dark=dark, height=300)
    names = [name.partition("/")[2] for name in families(notes).get(DRAWS, []) if name.startswith(f"{DRAWS}/")]
    for place, name in enumerate(names):
        color = palette.term_color(place, dark)
        for family, words, width in ((CHANCE, "chance", 1.0), (DRAWS, "drawn", 2.5)):
            rows = notes[notes["name"] == f"{family}/{name}"]
            if rows.empty:
                continue
            xs, ys = thin(*curve(rows, "step"))
            figure.add_trace(
                go.Scatter(
                    x=xs,
                    y=100 * ys,
                    mode="lines",
                    name=f"{plain(name)}, {words}",
                    legendgroup=name,
                    showlegend=family == DRAWS,
                    line={"color": color, "width": width, "dash": "dot" if family == CHANCE else _look(place)},
                    hovertemplate=f"{plain(name)}, {words} %{{y:.1f}}<extra></extra>",
                )
            )
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure


def readings(notes: pd.DataFrame, family: str, dark: bool = False) -> go.Figure:
    """The read-outs of one family over the steps, one line each."""
    figure = frame(X_TITLES["step"], plain(family.replace("_", " ")).capitalize(), dark=dark, height=300)
    for place, name in enumerate(families(notes).get(family, [])):
        xs, ys = thin(*curve(notes[notes["name"] == name], "step"))
        label = plain(name.partition("/")[2] or name)
        line = {"color": palette.term_color(place, dark), "width": 2, "dash": _look(place)}
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", name=label, line=line, hovertemplate="%{y:.4g}"))
    figure.update_layout(hovermode="x unified", showlegend=True)
    return figure


def _look(place: int) -> str:
    return _LOOKS[place % len(_LOOKS)]
