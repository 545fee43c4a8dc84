"""A lesson's step on top of the page it is about.

`?lesson=soft-targets&step=2` in the URL shows the step's text and question on whatever page it is; previous and next
are links to the other steps' pages, so every step can be bookmarked and shared.
"""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from pages.parts.common import cards
from pages.parts.common.keys import JOB, LESSON, PART, PRESENT, RACE, RUNS, STEP
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import plain
from pages.parts.learn import lesson_ends, lesson_runs
from pages.parts.learn.lesson_address import RunsByName, address, runs_of
from pages.parts.learn.lesson_links import step_link, style
from pages.parts.learn.lessons import Lesson, lessons

HERE = Path(__file__).resolve().parent
_stage = st.components.v2.component(
    "kd_lesson", html="<span hidden></span>", js=(HERE / "lesson.js").read_text(encoding="utf-8")
)


def bar() -> None:
    """The step that the URL names; nothing where it names none."""
    key = st.query_params.get(LESSON)
    if key is None:
        return
    with cards.guarded("The lesson cannot be shown"):
        lesson = lessons().get(key)
        if lesson is None:
            st.warning(f"There is no lesson {plain(key, 60)}.", icon=":material/link_off:")
            del st.query_params[LESSON]
            return
        typed = st.query_params.get(STEP, "1")
        number = min(max(int(typed) if typed.isdecimal() and len(typed) < 4 else 1, 1), len(lesson.steps))
        st.query_params[STEP] = str(number)  # a link to the page one is on does not change the browser's URL
        _bar(key, lesson, number)


def _bar(key: str, lesson: Lesson, number: int) -> None:
    step = lesson.steps[number - 1]
    runs = the_store().runs(include_archived=True)
    by_name = runs_of(lesson, runs)
    _choose_runs(address(key, number, by_name)[1], set(runs["id"]))
    with st.container(border=True, key="lesson_bar"):
        st.caption(f":material/school: {lesson.title} · step {number} of {len(lesson.steps)}")
        st.markdown(f"##### {step.title}")
        if number == 1:
            lesson_ends.poll(key, lesson)
        st.markdown(step.text)
        with st.container(key="lesson_question"):
            st.info(step.question, icon=":material/help:")
        with st.expander("What to look for"):
            st.markdown(step.answer)
        if number == len(lesson.steps):
            lesson_ends.end(key, lesson, by_name)
        lesson_runs.missing(lesson, step, by_name, runs)
        _links(key, lesson, number, by_name)
        _stage(key="lesson_stage", data={"figure": step.figure, "step": f"{key} {number}"})
    style()
    st.html(HERE / "lesson.css")
    if PRESENT in st.query_params:
        st.html(HERE / "present.css")
    _hide(step.hide)


def _links(key: str, lesson: Lesson, number: int, by_name: RunsByName) -> None:
    """To the steps beside this one, to all lessons, and the switch for a lecture hall."""
    with st.container(horizontal=True, key="lesson_links"):
        if number > 1:
            with st.container(width="content", key="lesson_previous"):
                step_link("Previous", ":material/arrow_back:", key, number - 1, by_name)
        if number < len(lesson.steps):
            with st.container(width="content", key="lesson_next"):
                step_link("Next", ":material/arrow_forward:", key, number + 1, by_name)
        st.page_link("pages/learn.py", label="All lessons", icon=":material/school:",
                     query_params={PART: "Lessons"}, width="content")  # fmt: skip
    st.toggle("Present", key=PRESENT, bind="query-params", help="Large letters, no menu; arrow keys change the step")


def _choose_runs(query: dict[str, str], known: set[str]) -> None:
    """A shared link names no runs, or those of another store: then the step's runs here are chosen."""
    for name in (JOB, RUNS, RACE):
        if name in query and not set(st.query_params.get(name, "").split(",")) <= known:
            st.query_params[name] = query[name]


def _hide(keys: tuple[str, ...]) -> None:
    """Hides the controls of these keys. Streamlit gives every keyed element a class of its own."""
    if keys:
        classes = ", ".join(f".st-key-{re.sub('[^A-Za-z0-9_-]', '-', key)}" for key in keys)
        st.html(f"<style>{classes} {{ display: none }}</style>")
