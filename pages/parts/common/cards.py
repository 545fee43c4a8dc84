"""What stands on a page where there is no picture: empty, broken or loading, always in words with a next step."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
import streamlit as st

from kdcore.analysis.race import Replay
from kdcore.errors import UserError
from kdcore.figures.template import Figure
from pages.parts.common.csv_file import csv_bytes
from pages.parts.common.plot import Click, Drawn, OnClick, drawn, plot
from pages.parts.common.text import plain, sentence

_log = logging.getLogger("kdboard.pages")


def title(words: str, lead: str) -> None:
    """The page's heading and the sentence that says what it answers."""
    st.title(words, anchor=False)
    st.caption(lead)


def empty(words: str, page: str | None = None, label: str = "", **query: str) -> None:
    """Nothing is here yet: why, and the door to what fills it."""
    with st.container(border=True):
        st.markdown(words)
        if page:
            st.page_link(f"pages/{page}.py", label=label, query_params=query or None)


def problem(error: BaseException, what: str = "This part of the page cannot be shown") -> None:
    """An error as a card: what is wrong, what to do; the details one click below."""
    with st.container(border=True):
        if isinstance(error, UserError):
            st.error(f"{what}. {plain(sentence(error.problem), 400)}", icon=":material/error:")
            st.markdown(f"**What to do:** {plain(sentence(error.remedy), 400)}")
            return
        _log.warning("%s: %r", what, error)
        st.error(f"{what}: {plain(type(error).__name__)}: {plain(error, 400)}", icon=":material/error:")
        with st.expander("Details"):
            st.code("".join(traceback.format_exception(error))[-4000:], language=None)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """What fails inside becomes a card; the rest of the page stands."""
    try:
        yield
    except Exception as error:
        problem(error, what)


def dark() -> bool:
    """Whether the page is drawn dark. May be wrong in the first moment after a switch."""
    return st.context.theme.type == "dark"


def figure(
    build: Callable[[], Figure | Drawn],
    key: str,
    caption: str = "",
    data: pd.DataFrame | Callable[[], pd.DataFrame] | None = None,
    what: str = "This plot cannot be drawn",
    follows: str | None = None,
    how: str = "",
    on_click: OnClick = "ignore",
    replay: Replay | None = None,
) -> Click | None:
    """Draws one figure with its caption and, one click below, its numbers as a table and a CSV file.

    Args:
        key: unique on the page. A figure that raises becomes a card with the reason.
        follows: zoom and hidden lines stay until this word changes.
        data: the numbers, or what reads them when they are asked for. how: how they were computed; stands with them.
        on_click, replay: see `plot.plot`. Returns what was clicked since the last run of the page.
    """
    click = None
    with guarded(what):
        made = build()
        picture = made if isinstance(made, Drawn) else drawn(made)
        alt = picture.said if replay is None else f"{picture.said}. {replay.comments[-1][1]}"
        click = plot(picture, key=key, alt=alt, on_click=on_click, follows=follows, replay=replay)
        if caption:
            st.caption(caption)
        if data is not None or how:
            numbers(data, key, how)
    return click


def numbers(data: pd.DataFrame | Callable[[], pd.DataFrame] | None, key: str, how: str = "") -> None:
    """The numbers behind a figure and how they were computed, closed until asked for."""
    label = (
        "Numbers" if not how else "How was this computed?" if data is None else "Numbers, and how they were computed"
    )
    opened = st.expander(label, key=f"{key}-numbers", on_change="rerun")
    if opened.open:
        with opened:
            if how:
                st.markdown(how)
            if data is None:
                return
            table = data() if callable(data) else data
            st.dataframe(table, hide_index=True, key=f"{key}-table")
            st.download_button(
                "Download these numbers (CSV)",
                data=lambda: csv_bytes(table),
                file_name=f"{key}.csv",
                mime="text/csv",
                key=f"{key}-csv",
                icon=":material/download:",
            )
            if runs := _reported(key):
                st.caption("Drawn again without the browser, with all that belongs to it:")
                st.code(f"python -m kdcore report {' '.join(runs)} -o report.html", language="bash", wrap_lines=True)


def _reported(key: str) -> list[str]:
    """The runs whose report holds this figure; none where no report does."""
    page = key.partition("_")[0]
    if page in ("compare", "speed"):
        return list(st.session_state.get("runs", []))
    return [st.session_state["job"]] if page in ("live", "layers") and st.session_state.get("job") else []


def badges(task: str, partial: str | None = None) -> None:
    """Says of a number what kind it is: from generated sentences, or from a part of the data."""
    from pages.parts.common.text import task_of

    found = task_of(task)
    if found and found.synthetic:
        st.badge(
            "synthetic task",
            color="orange",
            icon=":material/science:",
            help="Generated sentences, made to show differences between methods. No benchmark result.",
        )
    if partial:
        st.badge("partial data", color="yellow", icon=":material/pie_chart:", help=plain(partial, 400))
