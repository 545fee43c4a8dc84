"""A plot that stays itself while its data change, and says what was clicked in it.

`st.plotly_chart` builds a new plot for every new figure, so a zoom would last one second on a page that follows a run;
and it tells nothing of a click into a heat map. Here the browser keeps one plot and `Plotly.react` changes what is new
(plot.js). plotly.js is the file of the installed plotly package, served by Streamlit itself: no network.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kdcore.analysis.race import Replay
from kdcore.figures.template import CONFIG, PLOTLY_JS, Figure, summary

HERE = Path(__file__).resolve().parent
STATIC = HERE.parents[2] / "static"
SCRIPT = "plotly.min.js"

_HTML = """
<div class="kd-plot">
  <div class="kd-plot-figure" role="img"></div>
  <div class="kd-plot-tools">
    <button type="button" data-do="reset" title="Show everything again (or double-click the plot)">Reset zoom</button>
    <button type="button" data-do="png" title="Save this picture as PNG">PNG</button>
    <button type="button" data-do="svg" title="Save this picture as SVG">SVG</button>
  </div>
</div>
"""

_CSS = """
.kd-plot { position: relative; }
.kd-plot-tools { position: absolute; top: 0; right: 0; display: flex; gap: 4px; opacity: 0; transition: opacity 0.15s; }
.kd-plot:hover .kd-plot-tools, .kd-plot-tools:focus-within { opacity: 1; }
.kd-plot-tools button {
  font: 600 12px var(--st-font, sans-serif); padding: 3px 8px; cursor: pointer; border-radius: 6px;
  color: var(--st-text-color); background: var(--st-background-color); border: 1px solid var(--st-border-color);
}
.kd-plot-tools button:hover, .kd-plot-tools button:focus-visible {
  border-color: var(--st-primary-color); outline: 1px solid var(--st-primary-color);
}
.kd-plot-tools button[data-do="reset"] { display: none; }
.kd-plot-zoomed .kd-plot-tools { opacity: 1; }
.kd-plot-zoomed .kd-plot-tools button[data-do="reset"] { display: inline-block; }
.kd-plot-clicks .nsewdrag { cursor: pointer; }
.kd-replay { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 12px; margin-top: 8px; }
.kd-replay, .kd-replay-words { font: 400 14px var(--st-font, sans-serif); color: var(--st-text-color); }
.kd-replay button, .kd-replay select {
  font: inherit; padding: 4px 12px; border-radius: 8px; cursor: pointer;
  color: inherit; background: var(--st-background-color); border: 1px solid var(--st-border-color);
}
.kd-replay button { min-width: 5.5em; font-weight: 600; }
.kd-replay select { padding: 4px 6px; }
.kd-replay input { flex: 1 1 240px; min-width: 120px; accent-color: var(--st-primary-color); }
.kd-replay output { min-width: 5em; font-variant-numeric: tabular-nums; }
.kd-replay-words { margin: 8px 0 0; min-height: 3em; font-variant-numeric: tabular-nums; }
.kd-replay :is(button, select):is(:hover, :focus-visible), .kd-replay input:focus-visible {
  border-color: var(--st-primary-color); outline: 1px solid var(--st-primary-color);
}
@media (prefers-reduced-motion: reduce) {
  .kd-plot-tools { transition: none; }
  .kd-replay-play, .kd-replay-rate { display: none; }
}
"""

_JS = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("plot.js", "replay.js"))

_plot = st.components.v2.component("kd_plot", html=_HTML, css=_CSS, js=_JS, isolate_styles=False)


@dataclass(frozen=True)
class Click:
    """What was clicked: a point of a line, or a cell of a heat map.

    curve: number of the trace; name: its name. point: number of the point in it (None for a cell). row, column: of the
    cell (None for a point). x, y: where; value: the cell's. custom: the trace's customdata there.
    """

    curve: int
    name: str
    point: int | None
    row: int | None
    column: int | None
    x: object
    y: object
    value: float | None
    custom: tuple[object, ...]


OnClick = Callable[[Click], None] | Literal["ignore", "rerun"]
"""What a click does: nothing, run the page again with the click, or the same after calling a function with it."""


@dataclass(frozen=True)
class Drawn:
    """A figure as the browser gets it: to make it takes far longer than to send it again.

    figure: plotly's JSON. points: JSON of what replaces x and y of each trace, where a figure is kept and only its
    points are new; else empty. said: what a screen reader says. axes: changes when the axes mean something else.
    """

    figure: str
    height: int
    said: str
    axes: str
    points: str = ""

    def with_points(self, points: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Drawn:
        """The same figure over other points; x and y of each trace, in their order."""
        return replace(self, points=json.dumps([{"x": _packed(x), "y": _packed(y)} for x, y in points]))

    def in_full(self) -> dict[str, Any]:
        """Traces and layout with their present points."""
        figure: dict[str, Any] = json.loads(self.figure)
        for trace, points in zip(figure["data"], json.loads(self.points or "[]"), strict=False):
            trace.update(points)
        return figure


def drawn(figure: Figure) -> Drawn:
    """What the browser draws. The figure's traces get their ids."""
    text = _with_names(figure).to_json()
    return Drawn(text, int(figure.layout.height), summary(figure), _axes(figure))


def plot(
    figure: Figure | Drawn,
    *,
    key: str,
    alt: str = "",
    on_click: OnClick = "ignore",
    follows: str | None = None,
    replay: Replay | None = None,
) -> Click | None:
    """Draws the figure; returns what was clicked in it since the last run of the page.

    Args:
        key: unique on the page, without "__". alt: what a screen reader says, by default the figure's summary.
        follows: zoom and hidden lines stay until this word changes; by default, until the axes mean something else.
        replay: the figure can be played; a clock and a line of words stand under it.
    """
    picture = figure if isinstance(figure, Drawn) else drawn(figure)
    if not available():
        st.plotly_chart(picture.in_full(), key=key, theme=None, config=CONFIG, alt=alt or picture.said)
        return None

    def clicked() -> None:
        click = read_click(st.session_state[key].get("clicked"))
        if callable(on_click) and click is not None:
            on_click(click)

    data = {
        "figure": picture.figure,
        "points": picture.points,
        "height": picture.height,
        "alt": alt or picture.said,
        "revision": follows if follows is not None else picture.axes,
        "clicks": on_click != "ignore",
        "file": key.replace("_", "-"),
        "replay": asdict(replay) if replay else None,
    }
    result = _plot(key=key, data=data, on_clicked_change=clicked)
    return read_click(result.get("clicked"))


def read_click(raw: object) -> Click | None:
    """What the browser sent, as a Click; None where it is none."""
    if not isinstance(raw, Mapping):
        return None
    custom = raw.get("custom")
    return Click(
        curve=_whole(raw.get("curve")) or 0,
        name=str(raw.get("name") or ""),
        point=_whole(raw.get("point")),
        row=_whole(raw.get("row")),
        column=_whole(raw.get("column")),
        x=raw.get("x"),
        y=raw.get("y"),
        value=float(raw["value"]) if isinstance(raw.get("value"), int | float) else None,
        custom=tuple(custom) if isinstance(custom, list) else (),
    )


@st.cache_resource(show_spinner=False)
def available() -> bool:
    """Whether plotly.js can be served; puts it beside the other static files on first use."""
    target = STATIC / SCRIPT
    try:
        if not target.exists() or target.stat().st_size != PLOTLY_JS.stat().st_size:
            part = target.with_suffix(".part")
            shutil.copyfile(PLOTLY_JS, part)
            part.replace(target)
        return True
    except OSError:  # the program's folder is read-only
        return False


def _with_names(figure: Figure) -> Figure:
    """Gives each line an id of its own, by which the browser knows a hidden line when others come or go."""
    seen: Counter[str] = Counter()
    for trace in figure.data:
        name = f"{trace.type}|{trace.name or ''}|{getattr(trace, 'legendgroup', None) or ''}|{trace.meta or ''}"
        trace.uid = f"{name}|{seen[name]}"
        seen[name] += 1
    return figure


def _packed(values: NDArray[np.float64]) -> dict[str, str]:
    """Numbers as plotly.js reads them fastest; seven digits are more than a screen shows."""
    with np.errstate(over="ignore"):
        return {"dtype": "f4", "bdata": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def _axes(figure: Figure) -> str:
    """Changes when the axes mean something else: then an old zoom has no meaning."""
    axes = (figure.layout.xaxis, figure.layout.yaxis)
    return json.dumps([[axis.title.text, axis.type] for axis in axes])


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
