"""What can be done with the chosen runs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.errors import UserError
from kdcore.methods.catalog import check_source
from kdcore.store import ACTIVE, Store
from pages.parts.common import cards, student_download
from pages.parts.common.read_only import action
from pages.parts.common.selection import follow, remember, remember_many
from pages.parts.common.text import hundredfold, listed, metric_title, plain, sentence

RESUMABLE = ("stopped", "failed", "interrupted", "cancelled")


def show(store: Store, picked: pd.DataFrame) -> None:
    ids = list(picked["id"])
    if not ids:
        st.caption("Nothing chosen. Tick the box at the left of a row.")
        return
    with st.container(key="runs_chosen"):
        st.markdown(f"**Chosen:** {listed(plain(name, 60) for name in picked['name'])}")
    run = ids[0] if len(ids) == 1 else None
    state = str(picked["state"].iloc[0])
    with st.container(horizontal=True):
        if st.button("Open", key="runs_open", icon=":material/monitoring:", disabled=run is None):
            remember(ids[0])
            st.switch_page("pages/live.py", query_params={"job": ids[0]})
        if st.button("Compare", key="runs_compare", icon=":material/stacked_line_chart:", disabled=len(ids) < 2):
            remember_many(ids)
            follow(ids)
            st.switch_page("pages/compare.py", query_params={"runs": ",".join(ids)})
        if action("Clone into New run", key="runs_clone", icon=":material/content_copy:", disabled=run is None):
            st.switch_page("pages/launch.py", query_params={"clone": ids[0]})
        if action(
            "Resume",
            key="runs_resume",
            icon=":material/resume:",
            disabled=run is None or state not in RESUMABLE,
            help="Puts a stopped, failed or interrupted run back into the queue",
        ):
            with cards.guarded("This run cannot be resumed"):
                check_source(store.get(ids[0]).config)
                store.requeue(ids[0])
                remember(ids[0])
                st.switch_page("pages/live.py", query_params={"job": ids[0]})
        if action("Rename, note, tags", key="runs_edit", icon=":material/edit:", disabled=run is None):
            _edit(store, ids[0])
        if run:
            student_download.student(store, run, "runs_student")
        if action("Archive", key="runs_archive", icon=":material/archive:"):
            for run in ids:
                store.archive(run, not store.get(run).archived)
            st.rerun()
        if action("Delete", key="runs_delete", icon=":material/delete:"):
            _delete(store, ids)
    if run:
        _facts(store, picked.iloc[0])


def _facts(store: Store, row: pd.Series) -> None:
    if row["reason"]:
        text = " ".join(plain(sentence(part or ""), 400) for part in (row["reason"], row["remedy"]))
        st.warning(text, icon=":material/info:")
    if row["note"]:
        st.caption("Note")
        st.text(row["note"])
    cards.badges(row["task"], store.get(row["id"]).facts.get("partial"))
    if pd.notna(row["score"]):
        st.caption(
            f"{metric_title(row['metric'])} on the dev split: {hundredfold(row['score'])} (best by select), "
            f"{hundredfold(row['last_score'])} (last student); one seed."
        )


@st.dialog("Rename and annotate")
def _edit(store: Store, run: str) -> None:
    row = store.get(run)
    name = st.text_input("Name", value=row.name, max_chars=200, key="edit_name")
    tags = st.text_input("Tags, separated by commas", value=", ".join(row.tags), max_chars=300, key="edit_tags")
    note = st.text_area("Note", value=row.note, max_chars=5000, key="edit_note")
    if action("Save", key="edit_save", type="primary"):
        store.rename(run, name)
        store.annotate(run, note, [tag.strip() for tag in tags.split(",") if tag.strip()])
        st.rerun()


@st.dialog("Delete runs")
def _delete(store: Store, ids: list[str]) -> None:
    rows = [store.get(run) for run in ids]
    st.markdown("These runs and their students will be gone for good:")
    for row in rows[:20]:
        st.markdown(f"- **{plain(row.name, 80)}** ({plain(row.id)}, {row.state})")
    if len(rows) > 20:
        st.markdown(f"- and {len(rows) - 20} more")
    busy = [row for row in rows if row.state in ACTIVE]
    if busy:
        st.warning(f"Still training: {listed(plain(row.name, 60) for row in busy)}. Stop it first.")
    with st.container(horizontal=True):
        if action("Delete for good", key="delete_yes", type="primary", disabled=bool(busy)):
            failed = _delete_runs(store, ids)
            if not failed:
                st.session_state["runs_picked"] = []
                st.rerun()
            st.error(plain(failed, 400))
        if st.button("Keep them", key="delete_no"):
            st.rerun()


def _delete_runs(store: Store, ids: list[str]) -> str:
    try:
        for run in ids:
            store.delete(run)
    except UserError as error:
        return str(error)
    return ""
