"""Searches that `kdcore search` made here: what each recommends, with its doubt, and its trials."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis import pareto as fronts
from kdcore.errors import UserError
from kdcore.figures import pareto
from kdcore.search import background, record
from kdcore.search.question import MEASURES
from kdcore.search.result import SearchResult
from kdcore.store import Store
from pages.parts.common import cards, student_download
from pages.parts.common.keys import JOB, SPEED_SEARCH
from pages.parts.common.text import plain
from pages.parts.speed import search_form, search_state

HOW_TO = "`kdcore search` finds the student to ship under a bound on latency, size or score, in a time of your choice."
COLUMNS = {
    "method": "method", "options": "options", "size": "size", "start": "start", "state": "state",
    "select": "select score", "cost": "", "seconds": "seconds", "front": "on the front", "run": "run",
}  # fmt: skip
"""Column of the trials -> its title; empty: that of the bound's cost."""


def show(store: Store) -> None:
    """The newest search, or the one that is chosen; how to make one where there is none."""
    with cards.guarded("A new search cannot be asked for"):
        search_form.show(store)
    names = list(dict.fromkeys([*background.started(), *record.searches()]))
    if not names:
        st.caption(HOW_TO)
        return
    name = _choice(names)
    search_state.show(name)
    if name not in record.searches():
        return
    try:
        result = SearchResult(store, record.read(name))
    except UserError as error:
        cards.problem(error, "This search cannot be shown")
        return
    _answer(store, result)
    trials = result.trials
    if len(trials) and st.toggle("Show the trials", key="speed_search_open"):
        _trials(result, trials)


def _choice(names: list[str]) -> str:
    name = st.selectbox("Search", names, key=SPEED_SEARCH, bind="query-params", width=360)
    return name if name in names else names[0]


def _answer(store: Store, result: SearchResult) -> None:
    first, *others = result.sentences()
    with st.container(border=True, key="speed_search_answer"):
        st.markdown(f"**{plain(first, 400)}**")
        st.markdown("\n".join(f"* {plain(words, 900)}" for words in others))
        if result.chosen is not None and result.chosen["run"] in result.runs.index:
            with st.container(horizontal=True, vertical_alignment="center"):
                run = result.chosen["run"]
                st.page_link(
                    "pages/live.py", label="Open its run", icon=":material/monitoring:", query_params={JOB: run}
                )
                student_download.student(store, run, "speed_search_student")


def _trials(result: SearchResult, trials: pd.DataFrame) -> None:
    """A plot of those that were trained to their end, and a table of all: one at a time, as both are long."""
    whole = trials[(trials["state"] == "trained") & trials["select"].notna()]
    if len(whole) < 2:
        _table(result, trials)
        return
    plot, table = st.tabs(["Plot", "Table"])
    with plot:
        _plot(result, whole)
    with table:
        _table(result, trials)


def _plot(result: SearchResult, whole: pd.DataFrame) -> None:
    """`select` against the cost of the bound."""
    bound, names = result.record.asked.bound, _labels(whole)
    seen = pd.DataFrame({
        "key": whole["run"], "label": names, "method": whole["method"], "kind": "student", "condition": "",
        "cost": whole["cost"], "quality": 100 * whole["select"].astype(float), "busy": result.record.busy,
    })  # fmt: skip
    chosen = names[whole["chosen"]]
    least = 100 * bound.share * result.teacher if bound.share is not None and result.teacher > 0 else None
    cards.figure(
        lambda: pareto.scatter(
            fronts.points(seen), MEASURES[bound.axis].capitalize(), "Score on select (×100)", least=least,
            bound=bound.limits.get(bound.axis), chosen=chosen.iloc[0] if len(chosen) else "",
            si=bound.axis == "parameters", dark=cards.dark(),
        ),
        "speed_search_plot",
        "Trials trained to their end, one seed each. Stepped line: the best score at each cost. Ring: recommended.",
        follows=result.record.asked.name,
    )  # fmt: skip


def _labels(trials: pd.DataFrame) -> pd.Series:
    """A name for each trial that no other has."""
    options = trials["options"].where(trials["options"] == "", " (" + trials["options"] + ")")
    short = trials["method"] + ", " + trials["size"]
    full = trials["method"] + options + ", " + trials["size"] + ", " + trials["start"]
    names: pd.Series = short.where(~short.duplicated(keep=False), full)
    return names


def _table(result: SearchResult, trials: pd.DataFrame) -> None:
    axis = MEASURES[result.record.asked.bound.axis]
    table = trials.assign(select=(100 * trials["select"].astype(float)).round(1), cost=trials["cost"].round(3))
    titles = {name: title or axis for name, title in COLUMNS.items()}
    st.dataframe(
        table[list(COLUMNS)].rename(columns=titles), hide_index=True, key="speed_search_trials",
        alt="Trials of the search, the best on select first",
    )  # fmt: skip
