"""Titles, figures, badges, and the cards for what is empty or broken: always a text with a next step."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.analysis.race import Replay
from kdcore.config import DataConfig
from kdcore.errors import UserError
from kdcore.figures.template import Figure
from kdcore.formatting import data_text
from pages.parts.common.numbers import numbers
from pages.parts.common.plot import Click, OnClick, plot
from pages.parts.common.plot_data import PlotData, plot_data
from pages.parts.common.text import plain, sentence, task_of

_log = logging.getLogger("kdboard.pages")


def title(text: str, lead: str) -> DeltaGenerator:
    """The page's heading, with the sentence that says what it answers behind a question mark.

    Returns the rest of the line, for the choice of a run.
    """
    with st.container(horizontal=True, vertical_alignment="center", key="page_head"):
        st.title(text, anchor=False, help=lead, width="content")
        return st.container(horizontal=True, vertical_alignment="center")


def empty(text: str, page: str | None = None, label: str = "", **query: str) -> None:
    """Nothing is here yet: why, and a link to what fills it."""
    with st.container(border=True):
        st.markdown(text)
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
    """What fails inside becomes a card; the rest of the page is drawn."""
    try:
        yield
    except Exception as error:
        problem(error, what)


def dark() -> bool:
    """Whether the page is drawn dark. May be wrong in the first moment after a switch."""
    return st.context.theme.type == "dark"


def figure(
    build: Callable[[], Figure | PlotData],
    key: str,
    caption: str = "",
    data: pd.DataFrame | Callable[[], pd.DataFrame] | None = None,
    what: str = "This plot cannot be drawn",
    follows: str | None = None,
    how: str = "",
    on_click: OnClick = "ignore",
    replay: Replay | None = None,
    readout: str = "",
    about: Mapping[str, Any] | None = None,
) -> Click | None:
    """Draws one figure with its caption and, one click below, its numbers as a table and as files.

    Args:
        key: unique on the page. A figure that raises becomes a card with the reason.
        follows: zoom and hidden lines stay until this string changes.
        data: the numbers, or what reads them when they are asked for. how: how they were computed, shown with them.
        about: what their JSON file says of them, see `numbers`.
        on_click, replay, readout: see `plot.plot`. Returns what was clicked since the last run of the page.
    """
    click = None
    with guarded(what):
        figure = build()
        picture = figure if isinstance(figure, PlotData) else plot_data(figure)
        alt = picture.summary if replay is None else f"{picture.summary}. {replay.comments[-1][1]}"
        click = plot(picture, key=key, alt=alt, on_click=on_click, follows=follows, replay=replay, readout=readout)
        if caption:
            st.caption(caption)
        if data is not None or how:
            numbers(data, key, how, about)
    return click


def outside(*origins: str) -> None:
    """Marks methods that are not shipped, by the file or package that each comes from; empty ones are left out."""
    for origin in dict.fromkeys(filter(None, origins)):
        st.badge(
            f"from outside: {plain(origin, 80)}",
            color="violet",
            icon=":material/extension:",
            help="This method is not shipped with KDBoard. A person named its file or installed its package here.",
        )


def badges(task: str, partial: str | None = None) -> None:
    """Marks numbers that come from generated sentences, or from a part of the data."""
    known = task_of(task)
    if known and known.synthetic:
        st.badge(
            "synthetic task",
            color="orange",
            icon=":material/science:",
            help="Generated sentences, made to show differences between methods. Not a benchmark result.",
        )
    if partial:
        st.badge("partial data", color="yellow", icon=":material/pie_chart:", help=plain(partial, 400))


def damage(data: DataConfig) -> None:
    """Marks numbers of a student whose training data were damaged on purpose, with how."""
    if not data.clean:
        st.badge(data_text(data.model_dump()), color="red", icon=":material/healing:", help="Its training data")
