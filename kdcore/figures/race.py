"""Two runs on one clock: what each had reached at every moment, who led, and when each was over.

The clock is each run's own seconds of training. Between two of its points a run holds what was measured last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from kdcore.figures import palette
from kdcore.figures.smoothing import thin
from kdcore.figures.template import GRID, QUIET, frame, plain

Floats = NDArray[np.float64]

LINE, HEAD = "race line", "race head"
"""`meta` of the traces that grow with the clock, and of the marks at their ends."""
MOST_RATIO = 20.0
"""Of the largest loss to the smallest, on a linear axis."""
POINTS = 400
"""Points of one line: each is drawn anew at every tick of the clock."""


@dataclass(frozen=True)
class Track:
    """What one run logged of one quantity: seconds (ascending), steps and values, each [points]."""

    seconds: Floats
    steps: Floats
    values: Floats

    def at(self, clock: float) -> int:
        """Number of the point that holds at this time; -1 before the first."""
        return int(np.searchsorted(self.seconds, clock, side="right")) - 1


@dataclass(frozen=True)
class Racer:
    """One run of the race. end: seconds of its last step. scores: fractions, more is better."""

    name: str
    method: str
    end: float
    scores: Track
    losses: Track


@dataclass(frozen=True)
class Replay:
    """What a browser needs to play the figure: the clock's last second, and what to say from which second on."""

    end: float
    said: tuple[tuple[float, str], ...]


def moments(first: Racer, second: Racer) -> pd.DataFrame:
    """One row for each time at which something happens: a score, or an end.

    Returns:
        seconds; step and score (fraction) of each, NaN before its first; lead: first's score less second's;
        words: who leads, as a sentence.
    """
    racers = (first, second)
    times = sorted({0.0, *(float(at) for one in racers for at in (*one.scores.seconds, one.end))})
    rows = []
    for time in times:
        places = [one.scores.at(time) for one in racers]
        steps, scores = (
            [float(values[place]) if place >= 0 else np.nan for values, place in zip(columns, places, strict=True)]
            for columns in ([one.scores.steps for one in racers], [one.scores.values for one in racers])
        )
        rows.append([time, *steps, *scores, scores[0] - scores[1]])
    columns = ["seconds", "step of first", "step of second", "first", "second", "lead"]
    table = pd.DataFrame(rows, columns=columns)
    table["words"] = [_words(table.iloc[at], first, second, table["lead"][: at + 1]) for at in range(len(table))]
    return table


def replay(table: pd.DataFrame) -> Replay:
    """The rows of `moments` as a browser plays them."""
    return Replay(float(table["seconds"].iloc[-1]), tuple(zip(table["seconds"], table["words"], strict=True)))


def figure(first: Racer, second: Racer, y_title: str, dark: bool = False) -> go.Figure:
    """Both runs as they stood at the end of the race: scores above, losses below, one clock under both."""
    drawn = frame("Training time (s)", y_title, dark=dark, height=470)
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


def _words(row: pd.Series, first: Racer, second: Racer, leads: pd.Series) -> str:
    """What a commentator would say at this row, given the leads so far."""
    known = [
        f"{one.name} {100 * row[key]:.1f} at step {row[f'step of {key}']:.0f}"
        for one, key in ((first, "first"), (second, "second"))
        if row[key] == row[key]
    ]
    ended = [one for one in (first, second) if row["seconds"] >= one.end]
    over = len(ended) == 2
    lead = 100 * row["lead"]
    if not known:
        said = "No score yet."
    elif len(known) == 1:
        silent = second if row["first"] == row["first"] else first
        said = f"{known[0]}; {silent.name} has no score{'' if over else ' yet'}."
    elif round(lead, 1) == 0:
        said = f"Level: {', '.join(known)}."
    else:
        ahead, known = (first, known) if lead > 0 else (second, known[::-1])
        said = f"{ahead.name} {'is ahead at the end' if over else 'leads'} by {abs(lead):.1f}: {', '.join(known)}."
    if changes := _changes(leads) if over else 0:
        said += f" The lead changed {'once' if changes == 1 else f'{changes} times'}."
    ends = [f"{one.name} ended after {one.end:.1f} s" for one in sorted(ended, key=lambda one: one.end)]
    return f"{said} {', '.join(ends)}." if ends else said


def _changes(leads: pd.Series) -> int:
    """How often the one ahead was another than before; a level score changes nothing."""
    signs = np.sign(leads.dropna().to_numpy())
    signs = signs[signs != 0]
    return int((signs[1:] != signs[:-1]).sum())


def _looks(first: Racer, second: Racer, dark: bool) -> Sequence[palette.Style]:
    """Colour by method as everywhere; two runs of one method differ in dash and mark."""
    looks = [palette.style(one.method, dark) for one in (first, second)]
    if looks[0].color == looks[1].color and looks[0].dash == looks[1].dash:
        twin = looks[1]
        looks[1] = palette.Style(twin.key, twin.label, twin.family, twin.color, "dot", "diamond-open", twin.width)
    return looks


def _grow(
    drawn: go.Figure, track: Track, racer: Racer, look: palette.Style, scale: float, axis: str, shape: str
) -> None:
    """A line that holds its last value to the run's end, and the mark at that end."""
    seconds, values = thin(track.seconds, scale * track.values, POINTS)
    if len(seconds):
        seconds, values = np.append(seconds, max(racer.end, seconds[-1])), np.append(values, values[-1])
    shared = {"name": plain(racer.name), "legendgroup": racer.name, "yaxis": axis}
    drawn.add_trace(
        go.Scatter(
            x=seconds,
            y=values,
            mode="lines",
            line={"color": look.color, "dash": look.dash, "width": look.width, "shape": shape},
            meta=LINE,
            showlegend=axis == "y",
            hovertemplate=f"{plain(racer.name)}<br>%{{x:.1f}} s: %{{y:.3g}}<extra></extra>",
            **shared,
        )
    )
    drawn.add_trace(
        go.Scatter(
            x=seconds[-1:],
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
    known = np.concatenate([one[np.isfinite(one)] for one in values])
    if len(known) and known.min() > 0 and known.max() / known.min() > MOST_RATIO:
        return {"type": "log", "range": _range([np.log10(known)]), "dtick": 1}
    return {"range": _range(values)}


def _range(values: Sequence[Floats]) -> list[float]:
    """Where an axis begins and ends, so that it stands still while the lines grow."""
    known = np.concatenate([one[np.isfinite(one)] for one in values])
    if not len(known):
        return [0.0, 1.0]
    low, high = float(known.min()), float(known.max())
    room = 0.06 * (high - low) or 0.5
    return [low - room, high + room]
