"""One method as picture, equation and words, all read from its class; with a run's own numbers where there is one."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from kdcore.methods import METHODS, Method, MethodConfig, docs, introspect, resolve
from kdcore.methods.catalog import catalog, source_of
from kdcore.records import ModelSize, Setup
from kdcore.store import RunRow
from pages.parts.common import cards, method_problems
from pages.parts.common.run_labels import run_label
from pages.parts.common.run_picker import the_store
from pages.parts.common.selection import remember
from pages.parts.common.text import plain
from pages.parts.learn import method_docs, method_run, method_stages

FIRST = "kd"
"""The method that is shown first: the one that the others build on."""


def show() -> None:
    method_problems.show()
    with st.container(key="learn_choice"):
        key = _choose_method()
    method = METHODS[key]
    about = method_docs.read(method)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(method.title), anchor=False, width="content")
        st.badge(catalog()[key].family_name, icon=":material/category:")
        if source := source_of(key):
            cards.outside(source.origin)
    st.markdown(plain(about.idea, 500))
    if lines := catalog()[key].formula:
        method_docs.formula(lines)
    with st.container(key="learn_runs"):
        row = _choose_run(key)
    config, setup = _config_and_setup(method, row) if row else (method.Config(), introspect.example_setup(method))
    left, right = st.columns([6, 5], gap="large")
    with left, cards.guarded("The picture cannot be drawn"):
        method_stages.picture(method, config, setup, row)
    with right:
        method_docs.equation(about, method.Config.model_fields)
    if row:
        method_run.loss(row)
    else:
        cards.empty("**No finished run of this method yet.** With one, the equation stands here with its numbers.")
    st.subheader("Settings", anchor=False)
    method_docs.settings(method.Config)
    st.subheader("What to know", anchor=False)
    with cards.guarded("The stages cannot be listed"):
        method_stages.facts(method, config, setup)
    with st.expander("Where this differs from the paper, and how its weights convert", icon=":material/rule:"):
        method_docs.departures(about, method.Config.model_fields)
    method_docs.references(method.papers)
    with st.expander("All methods at a glance", icon=":material/list:"):
        st.dataframe(_overview(), hide_index=True, key="learn_overview", alt="All methods with what they match")


def _choose_method() -> str:
    """A list box, tied to `?method=`."""
    asked = st.query_params.get("method")
    if asked is not None and asked not in METHODS:
        st.warning(f"There is no method {plain(asked, 60)}. It was left out.", icon=":material/link_off:")
        del st.query_params["method"]
        asked = None
    st.session_state["learn_method"] = asked or st.session_state.get("learn_last", FIRST)
    key: str = st.selectbox(
        "Method", list(METHODS), key="learn_method", format_func=_method_label, on_change=_on_method
    )
    st.session_state["learn_last"] = st.query_params["method"] = key
    return key


def _on_method() -> None:
    st.query_params["method"] = st.session_state["learn_method"]


def _method_label(key: str) -> str:
    info = catalog()[key]
    return f"{info.family_name.capitalize()} · {info.title} · {info.cite}"


def _choose_run(key: str) -> RunRow | None:
    """The finished run whose numbers are shown: the one the address names, else the newest of this method."""
    runs = the_store().runs(include_archived=True)
    runs = runs[(runs["state"] == "done") & (runs["method"] == key)]
    if runs.empty:
        return None
    ids = list(runs["id"])
    asked = st.query_params.get("job") or st.session_state.get("job")
    labels = {row["id"]: run_label(row) for _, row in runs.iterrows()}
    st.session_state["learn_run"] = asked if asked in ids else ids[0]
    run_id = st.selectbox(
        "Numbers and sizes of the run", ids, key="learn_run", format_func=lambda run_id: labels.get(run_id, run_id),
        on_change=_on_run,
    )  # fmt: skip
    row = the_store().get(run_id)
    return None if row.broken else row


def _on_run() -> None:
    remember(st.session_state["learn_run"])


def _config_and_setup(method: type[Method], row: RunRow) -> tuple[MethodConfig, Setup]:
    """The run's settings and sizes; sizes that it did not record are those of an example."""
    config = resolve(row.method, row.config.options)[1]
    layers = row.config.student.layers
    setup = introspect.example_setup(method, student=layers)
    recorded = row.facts.get("teachers")
    if isinstance(row.facts.get("student"), dict) and isinstance(recorded, dict):
        teachers = {str(name): ModelSize(**facts["shape"]) for name, facts in recorded.items()}
        # the recorded student is the one that runs, which may be deeper than the one that was asked for
        student = replace(ModelSize(**row.facts["student"]), layers=layers)
        setup = replace(setup, student=student, teachers=teachers or setup.teachers,
                        scores=dict.fromkeys(teachers or setup.teachers, 0.5))  # fmt: skip
    return config, setup


def _overview() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "method": method.title,
                "family": catalog()[key].family_name,
                "idea": catalog()[key].idea,
                "student's tensors": ", ".join(docs.TENSOR_NAMES[name] for name in method.needs.student),
                "teachers": "–".join(map(str, dict.fromkeys(method.teachers))),
                "paper": catalog()[key].cite,
                "key": key,
            }
            for key, method in METHODS.items()
        ]
    )
