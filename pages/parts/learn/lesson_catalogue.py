"""All lessons, as cards."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common.run_picker import the_store
from pages.parts.common.text import listed, task_title
from pages.parts.learn import lesson_runs
from pages.parts.learn.handout import handout
from pages.parts.learn.lesson_address import RunsByName, runs_of
from pages.parts.learn.lesson_links import step_link, style
from pages.parts.learn.lessons import Lesson, lessons


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
            by_name = runs_of(lesson, runs)
            st.markdown(f"##### {lesson.number}. {lesson.title}")
            st.markdown(lesson.about)
            runs_text = _runs_text(lesson, by_name, runs)
            st.caption(f"{len(lesson.steps)} steps, about {lesson.minutes} minutes. {runs_text}")
            with st.container(key=f"lesson_links_{key}"):
                step_link("Begin", ":material/play_arrow:", key, 1, by_name)
            st.download_button(
                "Handout", handout(lesson, by_name, runs), f"{key}.html", "text/html", key=f"lesson_handout_{key}",
                icon=":material/print:", help="Questions with room for answers, for the printer", on_click="ignore",
            )  # fmt: skip
            with st.expander("Steps"):
                for number, step in enumerate(lesson.steps, start=1):
                    step_link(f"{number}. {step.title}", "", key, number, by_name)
            lesson_runs.offer(lesson, runs, f"lesson_own_{key}")


def _runs_text(lesson: Lesson, by_name: RunsByName, runs: pd.DataFrame) -> str:
    """Which runs the lesson uses, and which are missing."""
    here = {lesson.run_title(name): ids[0] for name, ids in by_name.items() if ids}
    absent = [lesson.run_title(name) for name, ids in by_name.items() if not ids]
    sentences = []
    if here:
        task = runs.set_index("id").loc[next(iter(here.values())), "task"]
        sentences.append(f"Uses {listed(here)} on {task_title(str(task))}.")
    if absent:
        sentences.append(f"Not here yet: {listed(absent)}.")
    return " ".join(sentences)
