"""A plot that keeps its zoom while its data change, and reports what was clicked in it.

`st.plotly_chart` builds a new plot for every new figure, so a zoom would last one second on a page that follows a run;
and it does not report a click into a heat map. Here the browser keeps one plot and `Plotly.react` changes what is new
(plot.js). plotly.js is the file of the installed plotly package, served by Streamlit itself: no network.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from kdcore.analysis.race import Replay
from kdcore.figures.template import CONFIG, PLOTLY_JS, Figure
from pages.parts.common.place import place_of
from pages.parts.common.plot_data import PlotData, plot_data

HERE = Path(__file__).resolve().parent
STATIC = HERE.parents[2] / "static"


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


_plot = st.components.v2.component(
    "kd_plot",
    html=_text("plot.html"),
    css=_text("plot.css"),
    js="\n".join(map(_text, ("plot.js", "replay.js"))),
    isolate_styles=False,
)


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


def plot(
    figure: Figure | PlotData,
    *,
    key: str,
    alt: str = "",
    on_click: OnClick = "ignore",
    follows: str | None = None,
    replay: Replay | None = None,
    readout: str = "",
) -> Click | None:
    """Draws the figure; returns what was clicked in it since the last run of the page.

    Args:
        key: unique on the page, without "__". alt: what a screen reader reads, by default the figure's summary.
        follows: zoom and hidden lines stay until this string changes; by default, until the axes mean something else.
        replay: the figure can be played; a clock and a line of text are under it.
        readout: what is pointed at is said in a line under the figure (its customdata), not beside the pointer, where
            the figure's edge would cut it; this stands in the line at first.
    """
    picture = figure if isinstance(figure, PlotData) else plot_data(figure)
    if not available():
        st.plotly_chart(picture.in_full(), key=key, theme=None, config=CONFIG, alt=alt or picture.summary)
        return None

    def clicked() -> None:
        click = read_click(st.session_state[key].get("clicked"))
        if callable(on_click) and click is not None:
            on_click(click)

    data = {
        "figure": picture.figure,
        "points": picture.points,
        "height": picture.height,
        "alt": alt or picture.summary,
        "revision": follows if follows is not None else picture.axes,
        "clicks": on_click != "ignore",
        "file": key.replace("_", "-"),
        "replay": asdict(replay) if replay else None,
        "readout": readout,
    }
    with st.container(key=f"{place_of(picture.height)}{key}"):
        return read_click(_plot(key=key, data=data, on_clicked_change=clicked).get("clicked"))


def read_click(raw: object) -> Click | None:
    """What the browser sent, as a Click; None where it is not one."""
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
    target = STATIC / "plotly.min.js"
    try:
        if not target.exists() or target.stat().st_size != PLOTLY_JS.stat().st_size:
            part = target.with_suffix(".part")
            shutil.copyfile(PLOTLY_JS, part)
            part.replace(target)
        return True
    except OSError:  # the program's folder is read-only
        return False


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
