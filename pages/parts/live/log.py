"""The end of a run's log."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from kdcore.paths import run_dir

LINES = 25
BYTES = 16_384


def show(run: str) -> None:
    with st.expander("Log", icon=":material/article:"):
        lines = _last_lines(run_dir(run) / "log.txt")
        st.code("\n".join(lines) if lines else "Nothing logged yet.", language=None)


def _last_lines(path: Path) -> list[str]:
    """Reads no more than the end of the file."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - BYTES))
        return file.read().decode("utf-8", "replace").splitlines()[-LINES:]
