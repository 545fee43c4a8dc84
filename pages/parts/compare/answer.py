"""What the page says first: which method is ahead, or that it cannot be said."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis.comparison import Comparison
from kdcore.analysis.headline import headline
from pages.parts.common.text import hundredfold, metric_title, plain, task_title
from pages.parts.compare.significance import read_contributions


def show(comparison: Comparison, teacher: float | None) -> None:
    """The answer, and on what it stands.

    teacher: the best teacher's score.
    """
    answer = headline(comparison, read_contributions)
    icon = ":material/check_circle:" if answer.real else ":material/balance:" if answer.claim else ":material/help:"
    with st.container(border=True, key="compare_answer"):
        claim = f"**{plain(answer.claim, 400)}** " if answer.claim else ""
        st.markdown(f"{icon} {claim}{plain(answer.doubt, 600)}")
        st.caption(" · ".join(_basis(comparison, teacher)))


def _basis(comparison: Comparison, teacher: float | None) -> list[str]:
    finished = comparison.finished
    counts = finished["seed"].nunique()
    parts = [plain(task_title(comparison.task)), f"{metric_title(comparison.metric)}, dev split"]
    parts += [f"{len(finished)} finished runs, {counts} seed{'' if counts == 1 else 's'}"]
    parts += [f"best teacher {hundredfold(teacher)}"] if teacher is not None else []
    return parts
