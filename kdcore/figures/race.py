"""Two runs on one clock: what each had reached at every moment, who led, and when each was over.

The clock counts training steps, or each run's own seconds of training. Between two of its points a run holds what was
measured last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go

from kdcore.analysis.race import Clock, Floats, Racer, Track
from kdcore.figures import palette
from kdcore.figures.smoothing import thin
from kdcore.figures.template import GRID, QUIET, frame, plain

LINE, HEAD = "race line", "race head"
"""`meta` of the traces that grow with the clock, and of the marks at their ends."""
TITLES: dict[Clock, str] = {"step": "Training step", "seconds": "Training time (s)"}
MOST_RATIO = 20.0
"""Of the largest loss to the smallest, on a linear axis."""
POINTS = 400
"""Points of one line: each is drawn anew at every tick of the clock."""


def figure(first: Racer, second: Racer, y_title: str, dark: bool = False) -> go.Figure:
    """Both runs as they stood at the end of the race: scores above, losses below, one clock under both."""
    drawn = frame(TITLES[first.unit], y_title, dark=dark, height=470)
    looks = _looks(first, second, dark)
    for racer, look in zip((first, second), looks, strict=True):
        _grow(drawn, racer.scores, racer, look, 100.0, "y", "hv")
        _grow(drawn, racer.losses, racer, look, 1.0, "y2", "linear")
    end = max(first.end, second.end)
    quiet = {"gridcolor": GRID[dark], "zerolinecolor": GRID[dark], "linecolor": GRID[dark]}
    tick = {"tickfont": {"color": QUIET[dark], "size": 12}, "automargin": True}
    title = {"text": "Loss (weighted sum)", "font": {"color": QUIET[dark], "size": 13}}
    losses = [first.losses.values, second.losses.values]
    drawn.update_layout(
        xaxis={"range": [0, 1.02 * end or 1.0], "anchor": "y2"},
        yaxis={"domain": [0.42, 1.0], "range": _range([100 * first.scores.values, 100 * second.scores.values])},
        yaxis2={**quiet, **tick, **_loss_axis(losses), "title": title, "domain": [0.0, 0.34]},
        hovermode="closest",
        showlegend=True,
    )
    return drawn


def _looks(first: Racer, second: Racer, dark: bool) -> Sequence[palette.Style]:
    """The methods' looks as everywhere, but that the two differ in dash, and two runs of one method in marker."""
    looks = [palette.style(racer.method, dark) for racer in (first, second)]
    if looks[0].dash == looks[1].dash:
        looks[1] = replace(looks[1], dash="solid" if looks[0].dash == "dot" else "dot")
    if looks[0].marker == looks[1].marker:
        looks[1] = replace(looks[1], marker=f"{looks[1].marker}-open")
    return looks


def _grow(
    drawn: go.Figure, track: Track, racer: Racer, look: palette.Style, scale: float, axis: str, shape: str
) -> None:
    """A line that holds its last value to the run's end, and the mark at that end."""
    clock, values = thin(track.clock, scale * track.values, POINTS)
    if len(clock):
        clock, values = np.append(clock, max(racer.end, clock[-1])), np.append(values, values[-1])
    at = "step %{x:.0f}" if racer.unit == "step" else "%{x:.1f} s"
    shared = {"name": plain(racer.name), "legendgroup": racer.name, "yaxis": axis}
    drawn.add_trace(
        go.Scatter(
            x=clock,
            y=values,
            mode="lines",
            line={"color": look.color, "dash": look.dash, "width": look.width, "shape": shape},
            meta=LINE,
            showlegend=axis == "y",
            hovertemplate=f"{plain(racer.name)}<br>{at}: %{{y:.3g}}<extra></extra>",
            **shared,
        )
    )
    drawn.add_trace(
        go.Scatter(
            x=clock[-1:],
            y=values[-1:],
            mode="markers",
            marker={"color": look.color, "symbol": look.marker, "size": 11},
            meta=HEAD,
            showlegend=False,
            hoverinfo="skip",
            cliponaxis=False,
            **shared,
        )
    )


def _loss_axis(values: Sequence[Floats]) -> dict[str, object]:
    """Logarithmic where one loss would lie flat on the floor under the other's."""
    known = np.concatenate([losses[np.isfinite(losses)] for losses in values])
    if len(known) and known.min() > 0 and known.max() / known.min() > MOST_RATIO:
        return {"type": "log", "range": _range([np.log10(known)]), "dtick": 1}
    return {"range": _range(values)}


def _range(values: Sequence[Floats]) -> list[float]:
    """Where an axis begins and ends, so that it stands still while the lines grow."""
    known = np.concatenate([scores[np.isfinite(scores)] for scores in values])
    if not len(known):
        return [0.0, 1.0]
    low, high = float(known.min()), float(known.max())
    room = 0.06 * (high - low) or 0.5
    return [low - room, high + room]
