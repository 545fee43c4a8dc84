"""The common frame of all figures: fonts, grid, margins, and what a figure says about itself."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go

FONT = "Source Sans, Source Sans Pro, Arial, sans-serif"
"""The pages' own font, and what comes near it where a figure is saved."""
INK = ("#111827", "#F3F4F6")
QUIET = ("#4B5563", "#B6BDC9")
GRID = ("#E5E7EB", "#2A303B")
PAGE = ("#FFFFFF", "#0E1117")

Figure = go.Figure
"""For the pages, which know plotly only through this room."""

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
"""The browser's library, as the installed wheel brings it."""

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtons": [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
    "toImageButtonOptions": {"format": "png", "scale": 2},
}
"""The tool bar of every figure: zoom, pan, reset, picture."""


def frame(x: str, y: str, *, dark: bool = False, height: int = 360, title: str = "") -> go.Figure:
    """An empty figure with axis titles (unit included), in the look of the page."""
    axis = {
        "gridcolor": GRID[dark],
        "zerolinecolor": GRID[dark],
        "linecolor": GRID[dark],
        "tickfont": {"color": QUIET[dark], "size": 12},
        "automargin": True,
    }
    spike = {"spikecolor": QUIET[dark], "spikethickness": 1, "spikedash": "solid"}
    layout = {
        "title": {"text": title, "font": {"size": 15, "color": INK[dark]}, "x": 0, "xanchor": "left"},
        "xaxis": {**axis, **spike, "title": {"text": x, "font": {"color": QUIET[dark], "size": 13}}},
        "yaxis": {**axis, "title": {"text": y, "font": {"color": QUIET[dark], "size": 13}}},
        "font": {"color": INK[dark], "size": 13, "family": FONT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 40 if title else 16, "b": 8},
        "height": height,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "font": {"color": INK[dark], "size": 12}},
        "hoverlabel": {"bgcolor": PAGE[dark], "font": {"color": INK[dark], "size": 12}, "align": "left"},
    }
    return go.Figure(layout=layout)  # checked once; to update an empty layout takes twice the time


def outline(figure: go.Figure, row: int, column: int, line: dict[str, object], half: float = 0.5) -> None:
    """A rectangle around one cell of a matrix whose axes count rows and columns; half: half its side, in cells."""
    corners = {"x0": column - half, "x1": column + half, "y0": row - half, "y1": row + half}
    figure.add_shape(type="rect", **corners, line=line)


def plain(text: object) -> str:
    """Text as Plotly shows it letter by letter: its labels would read tags such as <b> as markup."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def summary(figure: go.Figure) -> str:
    """What the figure shows, for a screen reader: titles, the names of what is drawn, and of the rows it stands in."""
    layout = figure.layout
    x, y = layout.xaxis.title.text or "", layout.yaxis.title.text or ""
    axes = f"{y} over {x}" if x and y else x or y
    rows = [str(word) for word in layout.yaxis.ticktext or ()]
    drawn = ", ".join(dict.fromkeys([*(trace.name for trace in figure.data if trace.name), *rows]))
    return html.unescape(f"{layout.title.text or 'Figure'}: {axes}" + (f"; {drawn}" if drawn else ""))
