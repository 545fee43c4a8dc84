"""All lessons, as cards."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.methods import METHODS
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import listed, task_title
from pages.parts.learn import lesson_runs
from pages.parts.learn.handout import handout
from pages.parts.learn.lesson_links import step_link, style
from pages.parts.learn.lessons import Lesson, RunsByMethod, lessons, runs_of


def show() -> None:
    """Each lesson with the link to its first step and the runs it uses."""
    style()
    runs = the_store().runs(include_archived=True)
    st.markdown(
        "Each lesson leads over pages of this dashboard with a text and a question on top. It works with the runs that "
        "are here; a link to a step can be bookmarked and shared."
    )
    for column, (key, lesson) in zip(st.columns(len(lessons())), lessons().items(), strict=True):
        with column.container(border=True, height="stretch", key=f"lesson_{key}"):
            by_method = runs_of(lesson, runs)
            st.markdown(f"##### {lesson.number}. {lesson.title}")
            st.markdown(lesson.about)
            runs_text = _runs_text(lesson, by_method, runs)
            st.caption(f"{len(lesson.steps)} steps, about {lesson.minutes} minutes. {runs_text}")
            with st.container(key=f"lesson_links_{key}"):
                step_link("Begin", ":material/play_arrow:", key, 1, by_method)
            st.download_button(
                "Handout", handout(lesson, by_method, runs), f"{key}.html", "text/html", key=f"lesson_handout_{key}",
                icon=":material/print:", help="Questions with room for answers, for the printer", on_click="ignore",
            )  # fmt: skip
            with st.expander("Steps"):
                for number, step in enumerate(lesson.steps, start=1):
                    step_link(f"{number}. {step.title}", "", key, number, by_method)
            lesson_runs.offer(lesson, runs, f"lesson_own_{key}")


def _runs_text(lesson: Lesson, by_method: RunsByMethod, runs: pd.DataFrame) -> str:
    """Which runs the lesson uses, and which are missing."""
    first = {method: ids[0] for method, ids in by_method.items() if ids}
    missing = [METHODS[method].title for method in lesson.uses if method not in first]
    sentences = []
    if first:
        task = runs.set_index("id").loc[next(iter(first.values())), "task"]
        sentences.append(f"Uses {listed(METHODS[method].title for method in first)} on {task_title(str(task))}.")
    if missing:
        sentences.append(f"Not here yet: {listed(missing)}.")
    return " ".join(sentences)
