"""How long the rows of a task are, in tokens, and where they are cut."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from kdcore.figures import palette
from kdcore.figures.template import frame, plain

BINS = 40
LONGEST = 1024
"""Rows of more tokens stand in the last bar."""


def histogram(lengths: Mapping[str, NDArray[np.int64]], max_length: int, dark: bool = False) -> go.Figure:
    """Share of the rows of each split by number of tokens, and a line where rows are cut.

    Args:
        lengths: split -> tokens of each row before any is cut; splits without rows are left out.
        max_length: tokens kept of a row.
    """
    figure = frame("tokens", "rows (%)", dark=dark, height=240)
    known = {name: np.minimum(each, LONGEST) for name, each in lengths.items() if len(each)}
    top = max([max_length, *(int(each.max()) for each in known.values())])
    edges = np.linspace(0, top + 1, min(BINS, top + 1) + 1)
    colors = (palette.teacher(dark).color, palette.FAMILIES["none"][dark])
    for place, (name, each) in enumerate(known.items()):
        counts, _ = np.histogram(each, edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=100 * counts / len(each),
            name=plain(name),
            marker={"color": colors[place % 2], "opacity": 0.8},
            hovertemplate="%{y:.1f} % of about %{x:.0f} tokens<extra></extra>",
        )
    about = {"text": f"cut at {max_length}", "font": {"size": 11}}
    figure.add_vline(x=max_length, line={"width": 1.5, "dash": "dot"}, annotation=about, annotation_position="top")
    figure.update_layout(bargap=0.05, margin={"t": 32})
    return figure
