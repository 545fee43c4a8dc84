"""Which run it is, its state, and what can be done with it when it has ended."""

from __future__ import annotations

import streamlit as st

from kdcore.store import ACTIVE, RESUMABLE, RunRow, Store
from pages.parts.common import cards, student_download
from pages.parts.common.read_only import action
from pages.parts.common.text import plain, sentence, task_title
from pages.parts.live.queue import request

STATE_BADGES = {
    "queued": ("blue", ":material/schedule:"),
    **dict.fromkeys(ACTIVE, ("primary", ":material/play_circle:")),
    "done": ("green", ":material/check_circle:"),
    "stopped": ("gray", ":material/stop_circle:"),
    "failed": ("red", ":material/error:"),
    "interrupted": ("orange", ":material/power_off:"),
    "cancelled": ("gray", ":material/cancel:"),
}
"""State -> colour and icon."""


def show(store: Store, row: RunRow) -> None:
    color, icon = STATE_BADGES.get(row.state, ("gray", ":material/help:"))
    with st.container(horizontal=True, vertical_alignment="center", key="live_head"):
        st.markdown(f"### {plain(row.name, 100)}")
        st.badge(row.state, color=color, icon=icon)  # type: ignore[arg-type]
        cards.badges(row.task, row.facts.get("partial"))
    st.caption(" · ".join(_facts(row)))
    if row.reason:
        box = st.error if row.state == "failed" else st.info
        box(f"**{plain(sentence(row.reason), 500)}** {plain(sentence(row.remedy), 500)}", icon=":material/info:")
        if row.detail:
            with st.expander("Last lines of the error"):
                st.code(row.detail[-4000:], language=None)
    for warning in row.facts.get("warnings") or ():
        st.warning(plain(sentence(str(warning)), 500), icon=":material/warning:")
    if not row.active:
        student_download.student(store, row.id, "live_student")
    if row.state in RESUMABLE and not row.broken:
        action(
            "Resume",
            key="live_resume",
            icon=":material/resume:",
            on_click=request,
            args=("requeue", row.id),
            help="Continues from its last checkpoint, at the end of the queue",
        )


def _facts(row: RunRow) -> list[str]:
    teachers = "" if row.broken else ", ".join(plain(teacher.name) for teacher in row.config.teachers)
    facts = [task_title(row.task), plain(row.method)]
    facts += [f"teachers: {teachers}" if teachers else "no teacher"]
    facts += [f"seed {row.config.train.seed}"] if not row.broken else []
    facts += [plain(row.facts["hardware"])] if row.facts.get("hardware") else []
    return [*facts, f"id {plain(row.id)}"]
