"""Which runs a page looks at: chosen on the page, mirrored in the address, checked against the store every time."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.store import UNFINISHED, RunRow, Store, open_store
from pages.parts.common.read_only import guarded
from pages.parts.common.run_labels import chip_label, rows_of, run_label, unique_labels
from pages.parts.common.selection import first_distilled, follow, remember, remember_many
from pages.parts.common.shipped_example import lend
from pages.parts.common.text import plain

MOST_RUNS = 60
"""Runs that one address or one comparison may name."""


def the_store() -> Store:
    """The store, to read only in read-only mode. Cheap; opened again where the database was moved or replaced."""
    return guarded(lend(open_store))


def one_run(
    runs: pd.DataFrame, label: str, key: str, first: str | None = None, place: DeltaGenerator | None = None
) -> str | None:
    """A list box over `runs`, the compared ones on top, tied to `?job=`.

    Where neither address nor session name one of them, it shows `first`, else what `first_distilled` finds among the
    compared runs, else among all.

    Args:
        runs: rows of `Store.runs`, newest first. key: of the widget, unique over pages. place: where the box stands,
            without its label.
    """
    if runs.empty:
        return None
    compared = runs["id"].isin(st.session_state.get("runs", []))
    runs = pd.concat([runs[compared], runs[~compared]])
    ids = list(runs["id"])
    asked = st.query_params.get("job")
    if asked is not None and asked not in ids:
        st.query_params.pop("job", None)  # before the warning, so that whoever reads it sees a clean address
        unknown([asked])
        asked = None
    chosen = asked or st.session_state.get("job")
    if chosen not in ids:
        chosen = (
            first or first_distilled(runs[runs["id"].isin(st.session_state.get("runs", []))]) or first_distilled(runs)
        )
    labels = unique_labels({row["id"]: run_label(row) for row in rows_of(runs)})
    st.session_state[key] = chosen
    picked = (place or st).selectbox(
        label, ids, key=key, format_func=lambda run: labels.get(run, run), on_change=_pick, args=(key, ids),
        label_visibility="collapsed" if place else "visible",
    )  # fmt: skip
    picked = picked if picked in ids else chosen
    remember(picked)
    return picked


def _pick(key: str, ids: Sequence[str]) -> None:
    """A message of the browser can cross a redraw: what it then names is a label of before, not a run."""
    if st.session_state[key] in ids:
        remember(st.session_state[key])


def many_runs(runs: pd.DataFrame, label: str, key: str, default: Sequence[str], help: str | None = None) -> list[str]:
    """A list box for several runs, tied to `?runs=a,b`."""
    ids = list(runs["id"])
    asked = [run for run in st.query_params.get("runs", "").split(",") if run][:MOST_RUNS]
    lost = [run for run in asked if run not in ids]
    if lost:
        unknown(lost)
    known = [run for run in asked if run in ids]
    if known and "job" not in st.query_params and known != st.session_state.get("runs"):
        follow(known)
    if not known and "runs" not in st.query_params:
        known = [run for run in st.session_state.get("runs", default) if run in ids]
    st.session_state[key] = known
    several = runs["task"].nunique() > 1
    labels = unique_labels({row["id"]: chip_label(row, several) for row in rows_of(runs)})
    picked = st.multiselect(
        label,
        ids,
        key=key,
        format_func=lambda run: labels.get(run, run),
        help=help,
        on_change=_pick_many,
        args=(key, ids),
        max_selections=MOST_RUNS,
        placeholder="Choose runs",
    )
    picked = [run for run in picked if run in ids]
    remember_many(picked)
    return picked


def _pick_many(key: str, ids: Sequence[str]) -> None:
    picked = [run for run in st.session_state[key] if run in ids]
    remember_many(picked)
    follow(picked)


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
    return row.state in UNFINISHED
