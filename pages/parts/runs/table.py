"""The table of all runs: what is listed, and which rows are chosen."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.figures import palette
from kdcore.methods.catalog import title_of
from kdcore.process import node as this_node
from pages.parts.common import cards
from pages.parts.common.text import metric_title, one_line, task_title


def choose(runs: pd.DataFrame) -> pd.DataFrame:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input(
            "Search",
            key="runs_search",
            placeholder="name, method, task, tag or note",
            max_chars=100,
            bind="query-params",
        )
        tasks = sorted(set(runs["task"]))
        task = st.selectbox(
            "Task",
            ["all", *tasks],
            key="runs_task",
            bind="query-params",
            format_func=lambda key: "All tasks" if key == "all" else task_title(key),
        )
        states = st.multiselect(
            "State", sorted(set(runs["state"])), key="runs_states", placeholder="All states", bind="query-params"
        )
        st.checkbox("Show archived", key="runs_archived", bind="query-params")
    if task != "all":
        runs = runs[runs["task"] == task]
    if states:
        runs = runs[runs["state"].isin(states)]
    if search.strip():
        text = runs[["id", "name", "method", "task", "note"]].astype(str).agg(" ".join, axis=1)
        text = text + " " + runs["tags"].map(lambda tags: " ".join(map(str, tags)))
        runs = runs[text.str.contains(search.strip(), case=False, regex=False)]
    return runs.reset_index(drop=True)


def pick(runs: pd.DataFrame) -> list[str]:
    """Draws the table and returns the ids of the chosen rows.

    A table keeps its selection by position, so a new run on top would move it to another run: the key holds the order
    of the ids, and what was chosen is put back by id.
    """
    ids = list(runs["id"])
    key = "runs_table_" + hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
    selection = [ids.index(run) for run in st.session_state.get("runs_picked", []) if run in ids]
    view = _view(runs)
    busy = runs["busy"].to_numpy()
    grey = f"color: {palette.FAMILIES['none'][cards.dark()]}"
    chosen = st.dataframe(
        view.style.apply(lambda column: [grey if one else "" for one in busy], subset=["latency"]),
        key=key,
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": selection}},
        placeholder="–",
        alt="All runs with state, task, method, score and cost",
        column_config=_columns(),
    )
    rows = [row for row in chosen["selection"]["rows"] if row < len(ids)]
    st.session_state["runs_picked"] = [ids[row] for row in rows]
    result: list[str] = st.session_state["runs_picked"]
    return result


def _view(runs: pd.DataFrame) -> pd.DataFrame:
    """What the table shows, the result beside the name."""
    view = pd.DataFrame(
        {
            "name": runs["name"].map(lambda name: one_line(name, 60)),
            "score": 100 * runs["score"],
            "gain": 100 * runs["gain"],
            "state": runs["state"],
            "task": runs["task"].map(task_title),
            "method": [
                f"{title_of(key)} (from outside: {one_line(origin, 40)})" if origin else title_of(key)
                for key, origin in zip(runs["method"], runs["method_origin"], strict=True)
            ],
            "student": runs["student"],
            "seed": runs["seed"],
            "metric": runs["metric"].map(lambda metric: metric_title(metric) if metric else ""),
            "parameters": runs["parameters"],
            "latency": runs["latency_ms"],
            "time": runs["seconds"],
            "created": runs["created"],
            "note": runs["note"].map(lambda note: one_line(note or "", 80)),
            "tags": runs["tags"],
        }
    )
    if len(set(runs["node"]) - {"", this_node()}):
        behind_state = list(view.columns).index("state") + 1
        view.insert(behind_state, "computer", runs["node"].map(lambda node: one_line(node, 40)))
    return view


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "name": st.column_config.Column(pinned=True),
        "score": number("dev score", format="%.1f", help="Student chosen by `select`, on the dev split"),
        "gain": number(
            "Δ alone",
            format="%+.1f",
            help="Points over fine-tuning alone with the same student, training and seed, where that has been run",
        ),
        "parameters": number("parameters", format="compact"),
        "latency": number(
            "latency (ms)",
            format="%.2f",
            help="Median for one sentence over runs of one size, as on Speed; grey: timed on a busy machine only",
        ),
        "time": number("time (s)", format="%.0f", help="Of the whole run, with making and asking the teachers"),
        "seed": number("seed", format="%d"),
        "created": st.column_config.DatetimeColumn("created (UTC)", format="YYYY-MM-DD HH:mm"),
    }
