"""A plot that keeps its zoom, its hidden lines and its place while new points arrive.

`st.plotly_chart` builds a new plot for every new figure, so a zoom would last one second on a page that follows a run.
Here the browser keeps one plot and `Plotly.react` changes what is new. plotly.js is the file of the installed plotly
package, served by Streamlit itself: no network.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import streamlit as st

from kdcore.figures.template import CONFIG, PLOTLY_JS, Figure, summary

STATIC = Path(__file__).resolve().parents[2] / "static"
SCRIPT = "plotly.min.js"

_HTML = '<div class="kd-steady" role="img"></div>'
_JS = """
const library = () => {
  window.kdPlotly ??= new Promise((done, failed) => {
    const script = document.createElement("script")
    script.src = new URL("app/static/plotly.min.js", document.baseURI).href
    script.onload = () => done(window.Plotly)
    script.onerror = () => failed(new Error("plotly.min.js could not be loaded"))
    document.head.append(script)
  })
  return window.kdPlotly
}

export default function ({ data, parentElement }) {
  const place = parentElement.querySelector(".kd-steady")
  const { data: traces, layout } = JSON.parse(data.figure)
  place.style.height = `${layout.height}px`
  place.setAttribute("aria-label", data.words)
  layout.autosize = true
  layout.uirevision = data.revision
  library()
    .then((Plotly) => place.isConnected && Plotly.react(place, traces, layout, data.config))
    .catch((error) => { place.textContent = error.message })
  return () => window.Plotly?.purge(place)
}
"""

_plot = st.components.v2.component("kd_steady_plot", html=_HTML, js=_JS, isolate_styles=False)


@st.cache_resource(show_spinner=False)
def available() -> bool:
    """Whether plotly.js can be served; puts it beside the other static files on first use."""
    source = PLOTLY_JS
    target = STATIC / SCRIPT
    try:
        if not target.exists() or target.stat().st_size != source.stat().st_size:
            part = target.with_suffix(".part")
            shutil.copyfile(source, part)
            part.replace(target)
        return True
    except OSError:  # the program's folder is read-only
        return False


def plot(figure: Figure, key: str, revision: str) -> None:
    """Draws the figure. While `revision` stays the same, what a person did to the plot stays too."""
    if not available():
        st.plotly_chart(figure, key=key, theme=None, config=CONFIG, alt=summary(figure))
        return
    data: dict[str, Any] = {
        "figure": figure.to_json(),
        "config": CONFIG | {"responsive": True},
        "words": summary(figure),
        "revision": revision,
    }
    _plot(key=key, data=data, height=int(figure.layout.height))
