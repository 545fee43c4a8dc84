"""A small form for a new search: the task, teachers and training of a run that there is, a bound, and a time."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.methods.catalog import catalog
from kdcore.search import background
from kdcore.search.question import MEASURES, METHODS, Question
from kdcore.search.record import names_in_use
from kdcore.settings_file import validate
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.keys import SPEED_SEARCH
from pages.parts.common.read_only import read_only
from pages.parts.common.text import plain, task_title

RUNTIMES = ("onnx-int8", "onnx-fp32", "torch-fp32", "torch-bf16")
MOST_RUNS = 50
"""Of which one can be chosen, the newest."""


def show(store: Store) -> None:
    """The form behind a button; nothing in read-only mode."""
    if read_only():
        return
    runs = store.runs(["done"], include_archived=True)
    runs = runs[runs["teachers"].astype(bool)].head(MOST_RUNS)
    if runs.empty:
        return
    words = {str(run["id"]): f"{run['name']}, {task_title(run['task'])}" for _, run in runs.iterrows()}
    place = st.popover("New search", icon=":material/search:", key="speed_new_search")
    with place, st.form("speed_search_form", border=False):
        asked = _fields(words)
        if st.form_submit_button("Start the search", type="primary"):
            _begin(store, asked)


def _fields(runs: dict[str, str]) -> dict[str, Any]:
    """What is asked. runs: id -> its words."""
    like = st.selectbox(
        "Task, teachers and training as in", list(runs), format_func=runs.__getitem__, key="speed_ns_like"
    )
    first, second = st.columns(2)
    name = first.text_input("Name", _free_name(), max_chars=60, key="speed_ns_name")
    minutes = second.number_input("Minutes of training", 1.0, 100_000.0, 60.0, format="%g", key="speed_ns_minutes")
    share = first.number_input("At least (% of teacher)", 0.0, 150.0, 97.0, format="%g", key="speed_ns_share")
    seeds = second.number_input("Seeds of the recommended student", 1, 20, 3, key="speed_ns_seeds")
    measure = first.selectbox("Cost", list(MEASURES), 1, format_func=lambda key: MEASURES[key], key="speed_ns_measure")
    most = second.number_input("At most (empty: as low as possible)", 0.0, None, None, format="%g", key="speed_ns_most")
    runtime = first.selectbox("Runtime", RUNTIMES, key="speed_ns_runtime")
    threads = second.number_input("CPU threads", 1, 1024, 1, key="speed_ns_threads")
    methods = st.multiselect(
        "Methods", list(catalog()), list(METHODS), format_func=lambda key: catalog()[key].title, key="speed_ns_methods"
    )
    limit = {str(measure): most} if most else {}
    bound = {"share": share / 100 or None, "least": measure if share else None, "runtime": runtime,
             "threads": int(threads), **limit}  # fmt: skip
    return {"like": like, "name": name.strip(), "minutes": minutes, "seeds": int(seeds), "bound": bound,
            "methods": methods}  # fmt: skip


def question_of(run: RunConfig, asked: dict[str, Any]) -> Question:
    """The question that the form's fields make.

    Raises:
        UserError: naming the field.
    """
    shared = background.like(json.loads(run.model_dump_json(exclude_defaults=True)))
    fields = {name: value for name, value in asked.items() if name != "like"}
    return validate(Question, fields | {"run": shared})


def _begin(store: Store, asked: dict[str, Any]) -> None:
    try:
        background.start(question_of(store.get(asked["like"]).config, asked))
    except UserError as error:
        cards.problem(error, f"The search {plain(asked['name'], 60)} cannot be started")
        return
    st.session_state[SPEED_SEARCH] = asked["name"]
    st.rerun()


def _free_name() -> str:
    """A name that no search and no tuning has."""
    names = names_in_use()
    return next(name for number in range(1, len(names) + 2) if (name := f"search-{number}") not in names)
