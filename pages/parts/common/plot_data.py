"""A figure as the browser gets it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.figures.template import Figure, summary


@dataclass(frozen=True)
class PlotData:
    """What is sent of a figure. Kept where a figure is drawn again: to make it takes far longer than to send it.

    figure: plotly's JSON. points: JSON of what replaces x and y of each trace, where a figure is kept and only its
    points are new; else empty. summary: what a screen reader reads. axes: changes when the axes mean something else.
    """

    figure: str
    height: int
    summary: str
    axes: str
    points: str = ""

    def with_points(self, points: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> PlotData:
        """The same figure over other points; x and y of each trace, in their order."""
        return replace(self, points=json.dumps([{"x": _pack(x), "y": _pack(y)} for x, y in points]))

    def in_full(self) -> dict[str, Any]:
        """Traces and layout with their present points."""
        figure: dict[str, Any] = json.loads(self.figure)
        for trace, points in zip(figure["data"], json.loads(self.points or "[]"), strict=False):
            trace.update(points)
        return figure


def plot_data(figure: Figure) -> PlotData:
    """What the browser draws. The figure's traces get their ids."""
    text = _with_names(figure).to_json()
    return PlotData(text, int(figure.layout.height), summary(figure), _axes(figure))


def _with_names(figure: Figure) -> Figure:
    """Gives each line an id of its own, by which the browser knows a hidden line when others come or go."""
    seen: Counter[str] = Counter()
    for trace in figure.data:
        name = f"{trace.type}|{trace.name or ''}|{getattr(trace, 'legendgroup', None) or ''}|{trace.meta or ''}"
        trace.uid = f"{name}|{seen[name]}"
        seen[name] += 1
    return figure


def _pack(values: NDArray[np.float64]) -> dict[str, str]:
    """Numbers as plotly.js reads them fastest; seven digits are more than a screen shows."""
    with np.errstate(over="ignore"):
        return {"dtype": "f4", "bdata": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def _axes(figure: Figure) -> str:
    """Changes when the axes mean something else: then an old zoom has no meaning."""
    axes = (figure.layout.xaxis, figure.layout.yaxis)
    return json.dumps([[axis.title.text, axis.type] for axis in axes])
