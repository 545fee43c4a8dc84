"""The pages: by which question the menu lists them, what each is for, and which runs it looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.common.mode import read_only

ROOT = Path(__file__).resolve().parents[3]
SECTIONS = {
    "": ("start",),
    "Train": ("launch", "live", "runs"),
    "Which is better?": ("compare", "speed", "beyond"),
    "Why?": ("layers", "attention", "examples", "lost"),
    "More": ("learn", "system"),
}
"""Heading in the menu -> its pages."""
PAGES = {
    "start": ("Start", ":material/home:", "What this is, a finished example, a one-minute demo, and the last runs."),
    "launch": (
        "New run",
        ":material/rocket_launch:",
        "Choose task, teachers, student and method, see what it costs.",
    ),
    "live": ("Running", ":material/monitoring:", "The run that trains, or the last one: scores, loss, log. The queue."),
    "runs": ("All runs", ":material/table_rows:", "Open, resume, clone, note, delete."),
    "compare": ("Compare", ":material/stacked_line_chart:", "Which method is ahead, and whether it can be said."),
    "speed": ("Speed", ":material/speed:", "Quality against latency, and the Pareto front."),
    "beyond": (
        "Beyond compression",
        ":material/shield:",
        "Which method holds when labels are wrong or rare, or sentences are damaged.",
    ),
    "layers": ("Layers", ":material/grid_on:", "How far the student's layers are from the teacher's."),
    "attention": ("Attention", ":material/visibility:", "Where teacher and student attend in a sentence of yours."),
    "examples": (
        "Examples",
        ":material/rule:",
        "Row by row: what the student learned and what it lost.",
    ),
    "lost": (
        "What was lost",
        ":material/difference:",
        "The gap to the teacher by size of the student, and what marks the rows that it lost.",
    ),
    "learn": ("Learn", ":material/school:", "Each method as picture, equation and text; temperature; lessons."),
    "system": ("System", ":material/memory:", "This machine, its disk, its queue, and the data and models on it."),
}
"""Key, which is also the path in the address -> title, icon, and what the page is for."""
ONE_RUN = ("live", "layers", "attention", "examples", "lost")
MANY_RUNS = ("compare", "speed", "examples", "beyond")
TRAINS = ("launch",)
"""Pages that only start something: not in the menu where nothing may be started, though a link still finds them."""


def navigation() -> Any:
    """Draws the menu; the page that the address names."""
    return st.navigation({head: [_page(key) for key in keys] for head, keys in SECTIONS.items()}, expanded=True)


def _page(key: str) -> Any:
    title, icon, purpose = PAGES[key]
    first = key == "start"
    return st.Page(
        ROOT / "pages" / f"{key}.py", title=title, icon=icon, help=purpose, default=first,
        url_path=None if first else key, visibility="hidden" if key in TRAINS and read_only() else "visible",
    )  # fmt: skip
