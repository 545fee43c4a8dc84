"""Curves over training: losses and their terms, scores, and many runs on one plot with a band over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy import stats

from kdcore.analysis.groups import MIN_BAND_SEEDS
from kdcore.analysis.series import Curve, Series, curve, series
from kdcore.figures import palette
from kdcore.figures.smoothing import smooth, thin
from kdcore.figures.template import frame, plain

X = Literal["step", "epoch", "examples", "tokens", "seconds"]
X_TITLES: dict[str, str] = {
    "step": "Training step",
    "epoch": "Epoch",
    "examples": "Training rows seen",
    "tokens": "Training tokens seen",
    "seconds": "Time since start (s)",
}

Band = Literal["std", "sem", "ci", "range"]
BAND_WORDS: dict[str, str] = {
    "std": "± std",
    "sem": "± standard error",
    "ci": "95% interval (t)",
    "range": "min to max",
}
LEVEL = 0.95
"""Of the interval of the mean."""


def fewest_seeds(band: Band) -> int:
    """Seeds from which on a group is drawn as mean and band: an interval says itself how little two seeds tell."""
    return 2 if band == "ci" else MIN_BAND_SEEDS


Kind = Literal["raw", "weighted"]


MARKS = 8
"""Markers along a line of many points: enough to know a method by its marker, too few to hide the line."""


class Look(NamedTuple):
    """How a line is drawn, whatever its points are. most: markers at most, evenly spread; 0 for one on each point."""

    name: str
    color: str
    dash: str = "solid"
    width: float = 2.0
    marker: str | None = None
    markers: bool = False
    most: int = 0
    quiet: bool = False
    legend: bool = True
    group: str | None = None
    hover: str = "%{y:.3g}"


class Line(NamedTuple):
    """A line and its points; x ascending, y may hold NaN; both [points]."""

    look: Look
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def terms(
    metrics: pd.DataFrame,
    kind: Kind,
    x: X = "step",
    *,
    smoothing: float = 0.0,
    log: bool = False,
    dark: bool = False,
) -> go.Figure:
    """The terms of one run's loss, and for weighted terms their sum; raw points faint behind smoothed lines.

    Args:
        metrics: rows of one run from `Store.metrics`.
    """
    lines = term_lines(series(metrics, x), kind, smoothing=smoothing, log=log, dark=dark)
    return terms_figure(lines, kind, x, log, dark)


def terms_figure(lines: Sequence[Line], kind: Kind, x: X = "step", log: bool = False, dark: bool = False) -> go.Figure:
    """The figure of `term_lines`."""
    title = "Weighted loss term" if kind == "weighted" else "Raw loss term"
    figure = frame(X_TITLES[x], title, dark=dark, height=330)
    figure.add_traces([trace(line_) for line_ in lines])
    figure.update_layout(hovermode="x unified")
    _log(figure, log)
    return figure


def term_lines(
    logged: Series, kind: Kind, *, smoothing: float = 0.0, log: bool = False, dark: bool = False
) -> list[Line]:
    """The lines of `terms`, drawn in this order."""
    none: NDArray[np.float64] = np.empty(0)
    looks = palette.term_looks(term_names(logged), dark)
    drawn = [(plain(name), *look, logged.get((kind, name), (none, none))) for name, look in looks.items()]
    if kind == "weighted":
        drawn.append(("sum", palette.teacher(dark).color, "dot", logged.get(("loss", "loss"), (none, none))))
    lines = []
    for name, color, dash, (xs, ys) in drawn:
        if smoothing:
            faint = Look(name, palette.with_opacity(color, 0.2), width=1, quiet=True, group=name)
            lines.append(line(faint, *thin(xs, ys), log))
        lines.append(line(Look(name, color, dash, group=name), *thin(xs, smooth(ys, smoothing)), log))
    return lines


def term_names(logged: Series) -> list[str]:
    """The loss terms of a run in the order they were logged."""
    return list(dict.fromkeys(name for kind, name in logged if kind in ("raw", "weighted")))


def scores(
    evaluations: pd.DataFrame,
    metric: str,
    title: str,
    teachers: Mapping[str, float] | None = None,
    guess: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """One run's score over its evaluations, by split, between the lines of the teachers and of a blind guess.

    Args:
        evaluations: rows of one run from `Store.evaluations`; fractions, drawn times 100.
        teachers: name -> score; guess: score of always answering the same.
    """
    figure = frame(X_TITLES["step"], title, dark=dark, height=330)
    student = evaluations[(evaluations["metric"] == metric) & (evaluations["which"] == "last")]
    looks = [
        ("#0F766E", "#2DD4BF", "solid", "circle"),
        ("#B45309", "#F5B041", "dash", "square"),
        ("#9D174D", "#F472B6", "dot", "diamond"),
    ]
    for index, (split, rows) in enumerate(student.groupby("split", sort=True)):
        light, night, dash, marker = looks[index % len(looks)]
        xs, ys = curve(rows, "step")
        color = night if dark else light
        figure.add_trace(trace(line(Look(split_title(str(split)), color, dash, marker=marker), xs, 100 * ys)))
    levels = [(100 * value, f"teacher {plain(name)}", palette.teacher(dark).color) for name, value in _items(teachers)]
    levels += [] if guess is None else [(100 * guess, "blind guess", palette.FAMILIES["none"][dark])]
    known = [level for level, _, _ in levels] + list(100 * student["value"].dropna())
    close = 0.09 * (max(known) - min(known)) if known else 0.0
    last, rank = np.inf, 0
    for level, name, color in sorted(levels, key=lambda item: -item[0]):
        rank = (rank + 1) % len(_PLACES) if last - level < close else 0
        _level(figure, level, f"{name}: {level:.1f}", color, _PLACES[rank])
        last = level
    return figure


def _items(values: Mapping[str, float] | None) -> list[tuple[str, float]]:
    return list((values or {}).items())


def split_title(split: str) -> str:
    """A split's name for people."""
    return {"select": "select (kept from training rows)", "validation": "dev"}.get(split, plain(split))


def compare(
    curves: Sequence[Curve],
    x: X,
    y_title: str,
    *,
    smoothing: float = 0.0,
    log: bool = False,
    log_x: bool = False,
    band: Band | None = "std",
    scale: float = 1.0,
    dark: bool = False,
    markers: bool = False,
) -> go.Figure:
    """Many runs on one plot: colour, dash and marker = method, one mean line and band where a group has enough seeds.

    Raw lines stay visible, faint, behind the smoothed ones. Means are over every run given: what is hidden in the
    legend changes no mean. On a logarithmic axis (log: values, log_x: progress) only what is above zero is drawn.
    """
    if log_x:
        curves = [replace(curve_, x=curve_.x[curve_.x > 0], y=curve_.y[curve_.x > 0]) for curve_ in curves]
    title = f"{y_title}, smoothing {smoothing:g}" if smoothing else y_title
    figure = frame(X_TITLES[x], title, dark=dark, height=440)
    groups: dict[str, list[Curve]] = {}
    for curve_ in curves:
        groups.setdefault(curve_.group, []).append(curve_)
    for members in groups.values():
        if band and len(members) >= fewest_seeds(band):
            _band(figure, members, smoothing, band, scale, log, dark)
        else:
            for index, curve_ in enumerate(sorted(members, key=lambda member: member.seed)):
                _single(figure, curve_, smoothing, scale, log, dark, markers, index == 0, len(members))
    figure.update_layout(hovermode="x unified" if len(figure.data) <= 8 else "closest")
    _log(figure, log)
    if log_x:
        figure.update_xaxes(type="log")
    return figure


def mean_and_spread(
    members: Sequence[Curve], smoothing: float, band: Band
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """x, mean, low, high over the seeds, on the union of their x, each curve only inside its own range.

    Points where fewer than two seeds have a value get a mean but no band. The interval is that of the mean under
    Student's t with one degree of freedom less than seeds at that point.
    """
    grid = np.unique(np.concatenate([member.x for member in members]))
    rows = np.stack([_on_grid(member.x, smooth(member.y, smoothing), grid) for member in members])
    count = np.isfinite(rows).sum(0)
    safe = np.maximum(count, 1)
    mean = np.where(count > 0, np.nansum(rows, 0) / safe, np.nan)
    deviation = np.sqrt(np.nansum((rows - mean) ** 2, 0) / np.maximum(count - 1, 1))
    if band == "range":
        low = np.nanmin(np.where(count > 0, rows, np.inf), 0)
        high = np.nanmax(np.where(count > 0, rows, -np.inf), 0)
    else:
        half = deviation if band == "std" else deviation / np.sqrt(safe)
        if band == "ci":
            half = half * stats.t.ppf((1 + LEVEL) / 2, np.maximum(count - 1, 1))
        low, high = mean - half, mean + half
    alone = count < 2
    return grid, mean, np.where(alone, np.nan, low), np.where(alone, np.nan, high)


def _on_grid(x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation that never crosses a missing value and never leaves the curve's range."""
    if not len(x):
        return np.full(len(grid), np.nan)
    out = np.interp(grid, x, y, left=np.nan, right=np.nan)
    exact = np.searchsorted(x, grid)
    hit = (exact < len(x)) & (x[np.minimum(exact, len(x) - 1)] == grid)
    return np.where(hit, y[np.minimum(exact, len(x) - 1)], out)


def _band(
    figure: go.Figure, members: Sequence[Curve], smoothing: float, band: Band, scale: float, log: bool, dark: bool
) -> None:
    look = palette.style(members[0].method, dark)
    x, mean, low, high = mean_and_spread(members, smoothing, band)
    name = f"{plain(members[0].label)} (N={len(members)}, {BAND_WORDS[band]})"
    finite = np.isfinite(low) & np.isfinite(high) & ((low > 0) | (not log))
    figure.add_trace(
        go.Scatter(
            x=np.concatenate([x[finite], x[finite][::-1]]),
            y=scale * np.concatenate([high[finite], low[finite][::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=palette.with_opacity(look.color, 0.18),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
            name="",
            meta="band",
        )
    )
    middle = Look(name, look.color, look.dash, look.width + 0.5, look.marker, most=MARKS, group=name)
    figure.add_trace(trace(line(middle, *thin(x, scale * mean), log)))


def _single(
    figure: go.Figure,
    curve_: Curve,
    smoothing: float,
    scale: float,
    log: bool,
    dark: bool,
    markers: bool,
    first: bool,
    count: int,
) -> None:
    look = palette.style(curve_.method, dark)
    name = plain(curve_.label) + (f" (N={count}, each seed)" if count > 1 else f" (seed {curve_.seed})")
    if smoothing:
        faint = Look(name, palette.with_opacity(look.color, 0.25), width=1, quiet=True, group=curve_.group)
        figure.add_trace(trace(line(faint, *thin(curve_.x, scale * curve_.y), log)))
    clear = Look(
        name,
        look.color,
        look.dash,
        look.width if count == 1 else look.width * 0.7,
        look.marker,
        most=0 if markers else MARKS,
        legend=first,
        group=curve_.group,
        hover=f"{plain(curve_.run)}<br>seed {curve_.seed}<br>%{{y:.3g}}",
    )
    figure.add_trace(trace(line(clear, *thin(curve_.x, scale * smooth(curve_.y, smoothing)), log)))


def line(look: Look, x: NDArray[np.float64], y: NDArray[np.float64], log: bool = False) -> Line:
    """A line; one point alone gets a marker, and what a logarithm cannot show becomes a gap."""
    if log:
        y = np.where(np.asarray(y) > 0, y, np.nan)
    return Line(look._replace(markers=look.marker is not None or bool(np.isfinite(y).sum() < 2)), x, y)


def bare(look: Look) -> Line:
    """A line that has no points yet."""
    return Line(look, np.empty(0), np.empty(0))


def trace(line_: Line) -> go.Scatter:
    """The line as plotly draws it."""
    look = line_.look
    return go.Scatter(
        x=line_.x,
        y=line_.y,
        name=look.name,
        mode="lines+markers" if look.markers else "lines",
        line={"color": look.color, "dash": look.dash, "width": look.width},
        marker={"symbol": look.marker or "circle", "size": 7, "color": look.color, "maxdisplayed": look.most},
        connectgaps=False,
        legendgroup=look.group,
        showlegend=look.legend and not look.quiet,
        hoverinfo="skip" if look.quiet else None,
        hovertemplate=None if look.quiet else look.hover,
    )


_PLACES = ("top left", "bottom left", "top right", "bottom right")
"""Where the words of lines that lie close together stand, so that none covers another."""


def _level(figure: go.Figure, y: float, name: str, color: str, position: str) -> None:
    figure.add_hline(
        y=y,
        line={"color": color, "width": 1, "dash": "dot"},
        annotation={"text": name, "font": {"color": color, "size": 11}},
        annotation_position=position,
    )


def _log(figure: go.Figure, log: bool) -> None:
    if log:
        figure.update_yaxes(type="log")
