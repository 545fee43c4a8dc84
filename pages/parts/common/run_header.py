"""What the pages about one run share: links between them, the run's state, and what it came to."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis.run_result import RunResult, ratio_text, run_result
from kdcore.store import ACTIVE, RunRow, Store
from pages.parts.common import cards
from pages.parts.common.keys import JOB
from pages.parts.common.text import hundredfold, metric_title, plain

TABS = {
    "live": ("Overview", ":material/monitoring:"),
    "layers": ("Layers", ":material/grid_on:"),
    "attention": ("Attention", ":material/visibility:"),
    "examples": ("Examples", ":material/rule:"),
    "lost": ("What was lost", ":material/difference:"),
}
"""Page -> title and icon."""
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
ALONE_HELP = "Points over fine-tuning alone: same student, training, seed, version and machine"


def show(store: Store, row: RunRow, runs: pd.DataFrame) -> None:
    """Links, state and result in two lines.

    Args:
        runs: rows of `Store.runs`, among which training alone is looked for.
    """
    links(row)
    with st.container(horizontal=True, vertical_alignment="center", key="run_head"):
        badges(row)
        with cards.guarded("The result of this run cannot be shown"):
            if row.state == "done":
                st.markdown(result_text(run_result(store, runs, row.id)))


def links(row: RunRow) -> None:
    """These pages as tabs of one run."""
    with st.container(horizontal=True, key="run_tabs", gap="small"):
        for page, (title, icon) in TABS.items():
            st.page_link(f"pages/{page}.py", label=title, icon=icon, query_params={JOB: row.id}, width="content")


def badges(row: RunRow) -> None:
    """State, and what its numbers come from."""
    color, icon = STATE_BADGES.get(row.state, ("gray", ":material/help:"))
    st.badge(row.state, color=color, icon=icon)  # type: ignore[arg-type]
    cards.badges(row.task, row.facts.get("partial"))
    if not row.broken:
        cards.damage(row.config.data)
    cards.outside(row.method_origin)


def result_text(result: RunResult) -> str:
    """All of the result that is known, in one line."""
    if result.score is None:
        return "No score was kept."
    parts = [f"{metric_title(result.metric)}: **{hundredfold(result.score)}**"]
    if result.share is not None:
        teacher = f"teacher {plain(result.teacher, 30)} ({hundredfold(result.teacher_score)})"
        parts.append(f"**{100 * result.share:.0f}%** of {teacher}")
    if result.gain is not None:
        parts.append(f"**{100 * result.gain:+.1f}** over training alone")
    if result.ratio is not None and not result.busy:
        parts.append(f"**{ratio_text(result.ratio)}**")
    return " · ".join(parts)


def tiles(result: RunResult) -> None:
    """The same as figures of one row, one for each thing that is known."""
    teacher = f"{plain(result.teacher, 30)}: {hundredfold(result.teacher_score)}"
    values = [
        (metric_title(result.metric) or "Score", hundredfold(result.score), "dev, one seed",
         "Dev split; the student that *select* chose; one seed"),
    ]  # fmt: skip
    if result.share is not None:
        values.append(("Of the teacher", f"{100 * result.share:.0f}%", teacher, "Share of the best teacher's score"))
    if result.gain is not None:
        values.append(("Over training alone", f"{100 * result.gain:+.1f}", "points, same seed", ALONE_HELP))
    if result.ratio is not None:
        busy = "Timed beside other work, so it cannot be said: time it again on Speed"
        values.append(
            ("Against the teacher", "–", "busy machine", busy) if result.busy
            else ("Against the teacher", ratio_text(result.ratio), "one row at a time", "Median of one timing of both")
        )  # fmt: skip
    with st.container(horizontal=True, key="run_tiles"):
        for label, value, below, help_text in values:
            st.metric(
                label, value, below or None, delta_color="off", delta_arrow="off", help=help_text, border=True,
                width="stretch",
            )  # fmt: skip
