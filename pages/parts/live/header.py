"""Which run it is, its state, what it came to, and what can be done with it when it has ended."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis.ablation import ALONE
from kdcore.analysis.run_result import run_result
from kdcore.methods.catalog import title_of
from kdcore.store import RESUMABLE, RunRow, Store
from pages.parts.common import ablation_menu, cards, run_header, student_download
from pages.parts.common.keys import RUNS
from pages.parts.common.read_only import action
from pages.parts.common.text import plain, sentence, task_title
from pages.parts.live.figure_cache import reuse
from pages.parts.live.point_cache import life
from pages.parts.live.queue import request


def show(store: Store, row: RunRow) -> None:
    run_header.links(row)
    with st.container(horizontal=True, vertical_alignment="center", key="live_head"):
        run_header.badges(row)
        st.markdown(f"**{plain(row.name, 100)}** · :small[{' · '.join(_facts(row))}]", width="stretch")
    if row.reason:
        box = st.error if row.state == "failed" else st.info
        box(f"**{plain(sentence(row.reason), 500)}** {plain(sentence(row.remedy), 500)}", icon=":material/info:")
        if row.detail:
            with st.expander("Last lines of the error"):
                st.code(row.detail[-4000:], language=None)
    for warning in row.facts.get("warnings") or ():
        st.warning(plain(sentence(str(warning)), 500), icon=":material/warning:")
    if row.state == "done":
        with cards.guarded("The result of this run cannot be shown"):
            run_header.tiles(
                reuse("live_result", life(row), lambda: run_result(store, store.runs(include_archived=True), row.id))
            )


def actions(store: Store, row: RunRow) -> None:
    """Buttons for a run that has ended."""
    with st.container(horizontal=True, key="live_actions"):
        if not row.active:
            student_download.student(store, row.id, "live_student")
        if row.state == "done" and not row.broken and row.method != ALONE:
            _ablations(store, row)
        if row.state in RESUMABLE and not row.broken:
            action(
                "Resume",
                key="live_resume",
                icon=":material/resume:",
                on_click=request,
                args=("requeue", row.id),
                help="Continues from its last checkpoint, at the end of the queue",
            )


def _ablations(store: Store, row: RunRow) -> None:
    """What the run can be repeated without, for all seeds of its settings that are finished."""
    with cards.guarded("What can be left out cannot be listed"):
        whole = reuse("live_seeds", life(row), lambda: _finished_seeds(store, row))
        compared = st.session_state.get(RUNS, [])
        ablation_menu.show(row.config, whole, "live_repeat", compared if row.id in compared else ())


def _finished_seeds(store: Store, row: RunRow) -> dict[int, str]:
    """Seed -> a finished run of the same settings; of this run's seed itself."""
    runs = store.runs(include_archived=True)
    group = str(runs.loc[runs["id"] == row.id, "group"].iloc[0])
    return ablation_menu.finished_seeds(runs, group) | {row.config.train.seed: row.id}


def _facts(row: RunRow) -> list[str]:
    teachers = "" if row.broken else ", ".join(plain(teacher.name) for teacher in row.config.teachers)
    facts = [plain(task_title(row.task)), plain(title_of(row.method))]
    if not row.broken and row.config.also:
        facts += [f"learns also {', '.join(plain(task_title(key)) for key in row.config.also)}"]
    facts += [f"teachers: {teachers}" if teachers else "no teacher"]
    facts += [f"seed {row.config.train.seed}"] if not row.broken else []
    facts += [plain(row.facts["hardware"])] if row.facts.get("hardware") else []
    return [*facts, f"id {plain(row.id)}"]
