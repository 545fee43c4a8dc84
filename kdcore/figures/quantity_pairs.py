"""One logged quantity over another: each run is a track in the order of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from kdcore.analysis.series import Track
from kdcore.figures import palette
from kdcore.figures.smoothing import smooth
from kdcore.figures.template import frame, plain

MOST_POINTS = 500
"""Of one track; evenly taken."""


def quantity_pairs(
    tracks: Sequence[Track],
    x_title: str,
    y_title: str,
    *,
    scales: tuple[float, float] = (1.0, 1.0),
    smoothing: float = 0.0,
    log: bool = False,
    log_x: bool = False,
    dark: bool = False,
) -> go.Figure:
    """A line per run, its last step as a large mark; colour = method, seeds of a group share their place in the legend.

    There is no mean over seeds: at one value of a quantity they are at different steps.

    Args:
        scales: what the quantities are multiplied by. smoothing: of both, step by step. log, log_x: what a logarithm
            cannot show becomes a gap.
    """
    note = f", smoothing {smoothing:g}" if smoothing else ""
    figure = frame(f"{x_title}{note}", f"{y_title}{note}", dark=dark, height=440)
    seen: set[str] = set()
    for track in sorted(tracks, key=lambda one: one.seed):
        alike = sum(other.group == track.group for other in tracks)
        scaled = replace(track, x=scales[0] * track.x, y=scales[1] * track.y)
        figure.add_trace(_line(scaled, smoothing, (log_x, log), track.group not in seen, alike, dark))
        seen.add(track.group)
    figure.update_layout(hovermode="closest")
    if log:
        figure.update_yaxes(type="log")
    if log_x:
        figure.update_xaxes(type="log")
    return figure


def _line(track: Track, smoothing: float, log: tuple[bool, bool], first: bool, alike: int, dark: bool) -> go.Scatter:
    look = palette.style(track.method, dark)
    x, y = (
        _plot_values(values, smoothing, logarithmic)
        for values, logarithmic in zip((track.x, track.y), log, strict=True)
    )
    kept = np.unique(np.linspace(0, len(x) - 1, min(MOST_POINTS, len(x))).round().astype(int))
    seeds = f" (N={alike}, each seed)" if alike > 1 else f" (seed {track.seed})"
    return go.Scatter(
        x=x[kept],
        y=y[kept],
        name=plain(track.label) + seeds,
        mode="lines+markers",
        line={"color": look.color, "dash": look.dash, "width": look.width * (1.0 if alike == 1 else 0.7)},
        marker={"symbol": look.marker, "color": look.color, "size": [*([3] * (len(kept) - 1)), 11]},
        connectgaps=False,
        legendgroup=track.group,
        showlegend=first,
        customdata=track.step[kept],
        hovertemplate=f"{plain(track.run)}<br>seed {track.seed}, step %{{customdata}}<br>"
        "%{x:.4g}, %{y:.4g}<extra></extra>",
    )


def _plot_values(values: NDArray[np.float64], smoothing: float, logarithmic: bool) -> NDArray[np.float64]:
    smoothed = smooth(values, smoothing)
    return np.where(smoothed > 0, smoothed, np.nan) if logarithmic else smoothed
