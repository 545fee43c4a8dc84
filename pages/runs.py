"""Runs: every run ever queued here, and what can be done with it."""

from __future__ import annotations

import hashlib

import pandas as pd
import streamlit as st

from kdcore.analysis.comparison import over_fine_tuning
from kdcore.errors import UserError
from kdcore.store import ACTIVE, RESUMABLE, Store
from pages.parts.common import cards, shell, student_download
from pages.parts.common.read_only import action
from pages.parts.common.run_picker import remember, remember_many, the_store
from pages.parts.common.text import hundredfold, listed, metric_title, one_line, plain, sentence, task_title


def main() -> None:
    cards.title("Runs", "Every run, newest first. Choose rows to compare, open, clone or delete them.")
    store = the_store()
    runs = store.runs(include_archived=st.session_state.get("runs_archived", False))
    if runs.empty:
        cards.empty(
            "**No runs yet.** The one-minute demo on the start page makes three, or launch your own.",
            "start",
            "Go to Start",
        )
        return
    runs = runs.assign(gain=over_fine_tuning(runs))
    shown = _filtered(runs)
    if shown.empty:
        cards.empty("**No run matches.** Clear the search or choose other states.")
        return
    picked = _table(shown)
    with cards.guarded("The run cannot be handled"):
        _actions(store, shown[shown["id"].isin(picked)])


def _filtered(runs: pd.DataFrame) -> pd.DataFrame:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input("Search", key="runs_search", placeholder="name, method, task, tag or note", max_chars=100)
        tasks = sorted(set(runs["task"]))
        task = st.selectbox(
            "Task",
            ["all", *tasks],
            key="runs_task",
            format_func=lambda key: "All tasks" if key == "all" else task_title(key),
        )
        states = st.multiselect("State", sorted(set(runs["state"])), key="runs_states", placeholder="All states")
        st.checkbox("Show archived", key="runs_archived")
    if task != "all":
        runs = runs[runs["task"] == task]
    if states:
        runs = runs[runs["state"].isin(states)]
    if words.strip():
        text = runs[["id", "name", "method", "task", "note"]].astype(str).agg(" ".join, axis=1)
        text = text + " " + runs["tags"].map(lambda tags: " ".join(map(str, tags)))
        runs = runs[text.str.contains(words.strip(), case=False, regex=False)]
    return runs.reset_index(drop=True)


def _table(runs: pd.DataFrame) -> list[str]:
    """Draws the table and returns the ids of the chosen rows.

    A table keeps its selection by position, so a new run on top would move it to another run: the key holds the order
    of the ids, and what was chosen is put back by id.
    """
    ids = list(runs["id"])
    key = "runs_table_" + hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
    kept = [ids.index(run) for run in st.session_state.get("runs_picked", []) if run in ids]
    view = pd.DataFrame(
        {
            "name": runs["name"].map(lambda name: one_line(name, 60)),
            "state": runs["state"],
            "task": runs["task"].map(task_title),
            "method": runs["method"],
            "student": runs["student"],
            "seed": runs["seed"],
            "score": 100 * runs["score"],
            "gain": 100 * runs["gain"],
            "metric": runs["metric"].map(lambda metric: metric_title(metric) if metric else ""),
            "parameters": runs["parameters"],
            "latency": runs["latency_ms"],
            "time": runs["seconds"],
            "created": runs["created"],
            "note": runs["note"].map(lambda note: one_line(note or "", 80)),
            "tags": runs["tags"],
        }
    )
    number = st.column_config.NumberColumn
    chosen = st.dataframe(
        view,
        key=key,
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": kept}},
        placeholder="–",
        alt="All runs with state, task, method, score and cost",
        column_config={
            "score": number("dev score", format="%.1f", help="Student chosen by `select`, on the dev split"),
            "gain": number(
                "Δ fine-tuning",
                format="%+.1f",
                help="Points over fine-tuning alone with the same student, training and seed, where that has been run",
            ),
            "parameters": number("parameters", format="compact"),
            "latency": number(
                "latency (ms)", format="%.2f", help="Median for one sentence; see Speed for the hardware"
            ),
            "time": number("training (s)", format="%.0f"),
            "seed": number("seed", format="%d"),
            "created": st.column_config.DatetimeColumn("created (UTC)", format="YYYY-MM-DD HH:mm"),
        },
    )
    rows = [row for row in chosen["selection"]["rows"] if row < len(ids)]
    st.session_state["runs_picked"] = [ids[row] for row in rows]
    return st.session_state["runs_picked"]


def _actions(store: Store, picked: pd.DataFrame) -> None:
    ids = list(picked["id"])
    if not ids:
        st.caption("Nothing chosen. Tick the box at the left of a row.")
        return
    with st.container(key="runs_chosen"):
        st.markdown(f"**Chosen:** {listed(plain(name, 60) for name in picked['name'])}")
    one = ids[0] if len(ids) == 1 else None
    state = str(picked["state"].iloc[0])
    with st.container(horizontal=True):
        if st.button("Open", key="runs_open", icon=":material/monitoring:", disabled=one is None):
            remember(ids[0])
            st.switch_page("pages/live.py", query_params={"job": ids[0]})
        if st.button("Compare", key="runs_compare", icon=":material/stacked_line_chart:", disabled=len(ids) < 2):
            remember_many(ids)
            st.switch_page("pages/compare.py", query_params={"runs": ",".join(ids)})
        if action("Clone into Launch", key="runs_clone", icon=":material/content_copy:", disabled=one is None):
            st.switch_page("pages/launch.py", query_params={"clone": ids[0]})
        if action(
            "Resume",
            key="runs_resume",
            icon=":material/resume:",
            disabled=one is None or state not in RESUMABLE,
            help="Puts a stopped, failed or interrupted run back into the queue",
        ):
            store.requeue(ids[0])
            remember(ids[0])
            st.switch_page("pages/live.py", query_params={"job": ids[0]})
        if action("Rename, note, tags", key="runs_edit", icon=":material/edit:", disabled=one is None):
            _edit(store, ids[0])
        if one:
            student_download.student(store, one, "runs_student")
        if action("Archive", key="runs_archive", icon=":material/archive:"):
            for run in ids:
                store.archive(run, not store.get(run).archived)
            st.rerun()
        if action("Delete", key="runs_delete", icon=":material/delete:"):
            _delete(store, ids)
    if one:
        _facts(store, picked.iloc[0])


def _facts(store: Store, row: pd.Series) -> None:
    if row["reason"]:
        words = " ".join(plain(sentence(said or ""), 400) for said in (row["reason"], row["remedy"]))
        st.warning(words, icon=":material/info:")
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
            failed = _deleted(store, ids)
            if not failed:
                st.session_state["runs_picked"] = []
                st.rerun()
            st.error(plain(failed, 400))
        if st.button("Keep them", key="delete_no"):
            st.rerun()


def _deleted(store: Store, ids: list[str]) -> str:
    try:
        for run in ids:
            store.delete(run)
    except UserError as error:
        return str(error)
    return ""


shell.show(main)
