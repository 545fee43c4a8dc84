"""Which runs a page looks at: chosen on the page, mirrored in the address, checked against the store every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.store import ACTIVE, RunRow, Store, open_store
from pages.parts.common.read_only import guarded
from pages.parts.common.text import one_line, plain, task_title

Row = pd.Series | Mapping[Hashable, Any]
"""One of `Store.runs`."""

MOST_RUNS = 60
"""Runs that one address or one comparison may name."""


def the_store() -> Store:
    """The store, to read only in read-only mode. Cheap; opened again where the database was moved or replaced."""
    return guarded(open_store())


def run_words(row: Row) -> str:
    """One run in a list box: name, task, state."""
    name = one_line(row["name"], 50)
    seed: str = "" if pd.isna(row["seed"]) else f" · seed {int(row['seed'])}"
    return f"{name} · {task_title(row['task'])}{seed} · {_state(row)} · {_moment(row['created'])}"


def _state(row: Row) -> str:
    """The state without its steps: a label that changes while its box is open makes the browser's answer stale."""
    return "running" if row["state"] in ACTIVE else str(row["state"])


def _moment(created: Any) -> str:
    return "" if pd.isna(created) else f"{pd.Timestamp(created):%Y-%m-%d %H:%M}"


def short_words(row: Row, task: bool) -> str:
    """One run as a chip: its name, and what the name may leave out."""
    words = [one_line(row["name"], 36)]
    seed: str = "" if pd.isna(row["seed"]) else f"seed {int(row['seed'])}"
    words += [seed] if seed and seed not in row["name"] else []
    words += [task_title(row["task"])] if task else []
    words += [] if row["state"] == "done" else [_state(row)]
    return " · ".join(words)


def told_apart(words: Mapping[str, str]) -> dict[str, str]:
    """Run -> words, with the end of the id where two runs have the same: list boxes know an option by its words."""
    times = Counter(words.values())
    return {run: said if times[said] == 1 else f"{said} · {run[-6:]}" for run, said in words.items()}


def _rows(runs: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """What list boxes say of each run. A Series a row would take most of the time of a page over a full store."""
    return runs[["id", "name", "task", "seed", "state", "created"]].to_dict("records")


def one_run(runs: pd.DataFrame, label: str, key: str, prefer: Sequence[str] = ()) -> str | None:
    """A list box over `runs`, tied to `?job=`. The first run is taken where the address names none.

    Args:
        runs: rows of `Store.runs`. key: of the widget, unique over pages. prefer: states to take the default from.
    """
    ids = list(runs["id"])
    if not ids:
        return None
    asked = st.query_params.get("job")
    if asked is not None and asked not in ids:
        unknown([asked])
        asked = None
    chosen = asked or st.session_state.get("job")
    if chosen not in ids:
        chosen = next((run for run, state in zip(ids, runs["state"], strict=True) if state in prefer), ids[0])
    words = told_apart({row["id"]: run_words(row) for row in _rows(runs)})
    st.session_state[key] = chosen
    picked = st.selectbox(
        label, ids, key=key, format_func=lambda run: words.get(run, run), on_change=_pick, args=(key, ids)
    )
    remember(picked)
    return picked


def _pick(key: str, ids: Sequence[str]) -> None:
    """Takes what was picked; a label that is no id (the box was redrawn meanwhile) changes nothing."""
    if (run := st.session_state[key]) in ids:
        remember(run)


def remember(run: str | None) -> None:
    """Makes this the run the pages look at."""
    if run is None:
        st.session_state.pop("job", None)
        st.query_params.pop("job", None)
        return
    st.session_state["job"] = run
    if st.query_params.get("job") != run:
        st.query_params["job"] = run


def many_runs(runs: pd.DataFrame, label: str, key: str, default: Sequence[str], help: str | None = None) -> list[str]:
    """A list box for several runs, tied to `?runs=a,b`."""
    ids = list(runs["id"])
    asked = [run for run in st.query_params.get("runs", "").split(",") if run][:MOST_RUNS]
    lost = [run for run in asked if run not in ids]
    if lost:
        unknown(lost)
    known = [run for run in asked if run in ids]
    if not known and "runs" not in st.query_params:
        known = [run for run in st.session_state.get("runs", default) if run in ids]
    st.session_state[key] = known
    several = runs["task"].nunique() > 1
    words = told_apart({row["id"]: short_words(row, several) for row in _rows(runs)})
    picked = st.multiselect(
        label,
        ids,
        key=key,
        format_func=lambda run: words.get(run, run),
        help=help,
        on_change=_pick_many,
        args=(key, ids),
        max_selections=MOST_RUNS,
        placeholder="Choose runs",
    )
    remember_many(picked)
    return picked


def _pick_many(key: str, ids: Sequence[str]) -> None:
    remember_many([run for run in st.session_state[key] if run in ids])


def remember_many(runs: Sequence[str]) -> None:
    """Makes these the runs that are compared."""
    st.session_state["runs"] = list(runs)
    words = ",".join(runs)
    if st.query_params.get("runs") != words:
        st.query_params["runs"] = words


def unknown(ids: Sequence[str]) -> None:
    """Says which runs of a link this page leaves out: those that are not here, and those that it has nothing of."""
    asked = list(ids)[:5]
    here = the_store().rows(asked)
    for row in here.values():
        shown = f"{plain(row.name, 60)} ({plain(row.state)})"
        st.warning(f"This page has nothing to show of the run of the link: {shown}.", icon=":material/link_off:")
    lost = ", ".join(plain(one, 60) for one in asked if one not in here)
    if lost:
        st.warning(
            f"The link names a run that is not in this store: {lost}. It was left out.", icon=":material/link_off:"
        )


def active(row: RunRow) -> bool:
    """Whether a worker holds the run or will."""
    return row.state in (*ACTIVE, "queued")
