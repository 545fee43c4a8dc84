"""KDBoard: run with `streamlit run app.py`. Navigation, the worker, and the strip that stands on every page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).resolve().parent
PAGES = {
    "start": ("Start", ":material/home:", "What this is, a one-minute demo, and the last runs."),
    "launch": ("Launch", ":material/rocket_launch:", "Choose task, teachers, student and method, see the cost, start."),
    "live": ("Live", ":material/monitoring:", "Watch a run: progress, the loss and its terms, scores, log. The queue."),
    "runs": ("Runs", ":material/table_rows:", "All runs: open, resume, clone, note, delete."),
    "compare": ("Compare", ":material/stacked_line_chart:", "Curves, final scores and settings of several runs."),
    "layers": ("Layers", ":material/grid_on:", "How far the student's layers are from the teacher's."),
    "attention": ("Attention", ":material/visibility:", "Where teacher and student look in your own sentence."),
    "examples": ("Examples", ":material/rule:", "Row by row: what the student learned from its teacher, what it lost."),
    "speed": ("Speed", ":material/speed:", "Quality against latency, and what nobody beats."),
    "learn": ("Learn", ":material/school:", "Each method as picture, equation and words; temperature; lessons."),
    "system": ("System", ":material/memory:", "This machine, its disk, its queue, and what was found here."),
}
ONE_RUN = ("live", "layers", "attention")
MANY_RUNS = ("compare", "speed", "examples")


def main() -> None:
    # The icon is a file of ours: a Material icon would be fetched from a font server by the browser.
    st.set_page_config("KDBoard", str(HERE / "static" / "icon.svg"), layout="wide", initial_sidebar_state=230)
    st.logo(str(HERE / "static" / "logo.svg"), size="large", icon_image=str(HERE / "static" / "icon.svg"))
    page = st.navigation([_page(key) for key in PAGES])
    # Only now what takes seconds to import: until the menu is set, Streamlit shows one of its own.
    from pages.parts.common.file_limit import raise_file_limit
    from pages.parts.common.shell import inside_app
    from pages.parts.common.sidebar import strip

    raise_file_limit()
    _keep_selection(page.url_path)
    with st.sidebar:
        strip()
    with inside_app():
        _above()
        page.run()


def _page(key: str) -> Any:
    title, icon, words = PAGES[key]
    first = key == "start"
    path = HERE / "pages" / f"{key}.py"
    return st.Page(path, title=title, icon=icon, help=words, default=first, url_path=None if first else key)


def _above() -> None:
    """What stands on top of every page: a lesson's step, and why some buttons are not there."""
    from pages.parts.common.read_only import banner

    if "lesson" in st.query_params:
        from pages.parts.learn.lesson import bar  # imports the methods, and with them torch

        bar()
    banner()


def _keep_selection(page: str) -> None:
    """A click in the menu drops the address's parameters; those of the selection are written again."""
    state = st.session_state
    if page in ONE_RUN and "job" not in st.query_params and state.get("job"):
        st.query_params["job"] = state["job"]
    if page in MANY_RUNS and "runs" not in st.query_params and state.get("runs"):
        st.query_params["runs"] = ",".join(state["runs"])


if __name__ == "__main__":
    main()
