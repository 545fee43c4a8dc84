"""Lessons: a teacher's text and a question on top of the page they are about, step by step.

A lesson is a file in `pages/lessons/`. Each step names a page, what is chosen there, and which controls are hidden.
`?lesson=soft-targets&step=2` in the address shows the step's bar on top of whatever page it is; previous and next are
links to the other steps' pages, so every step can be bookmarked and shared. Runs are named by their method and looked
up in the store, so that a lesson works with the runs that are there.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st
from pydantic import Field

from kdcore.config import RunConfig, Settings
from kdcore.identity import config_hash
from kdcore.methods import METHODS
from kdcore.runs.demo import demo_runs
from kdcore.runs.sweep import Grid, expand
from kdcore.settings_file import read_settings, validate
from kdcore.store import ACTIVE
from kdcore.tasks import TASKS
from pages.parts.common import cards
from pages.parts.common.read_only import action, read_only
from pages.parts.common.run_picker import the_store
from pages.parts.common.sidebar import worker
from pages.parts.common.text import listed, plain, task_title

FOLDER = Path(__file__).resolve().parents[2] / "lessons"
PROBES = {"distances": "layer distances", "latency": "latency"}
MOST_RUNS = 24
"""Runs of one step's comparison."""


class Step(Settings):
    """One view with its text. run, runs: methods whose runs are shown there. probe: what must have been measured."""

    title: str
    text: str
    question: str
    answer: str = Field(description="shown on a click")
    page: str = Field(pattern=r"^[a-z_]+$")
    view: dict[str, str] = Field(default_factory=dict, description="what the address says beside lesson and runs")
    run: str | None = None
    runs: tuple[str, ...] = ()
    race: tuple[()] | tuple[str, str] = Field((), description="methods whose runs race on Compare")
    probe: Literal["", "distances", "latency"] = ""
    hide: tuple[str, ...] = Field((), description="keys of controls that are not there in this step")


class Lesson(Settings):
    """A lesson. runs: what makes its runs, the demo or a grid as in `kdcore.runs.sweep`. uses: their methods."""

    number: int
    title: str
    about: str
    minutes: int
    uses: tuple[str, ...]
    runs: Literal["demo"] | Grid
    steps: tuple[Step, ...] = Field(min_length=2)

    def made_by(self) -> list[RunConfig]:
        """The runs to queue for this lesson."""
        runs = demo_runs() if isinstance(self.runs, str) else [cell.run for cell in expand(self.runs)]
        return [run for run in runs if run.method in self.uses]


@cache
def lessons() -> dict[str, Lesson]:
    """Key (the file's name) -> lesson, in the order of their numbers.

    Raises:
        UserError: a file that does not read; the field is named.
    """
    found = {path.stem: validate(Lesson, read_settings(path), path.name) for path in FOLDER.glob("*.yaml")}
    return dict(sorted(found.items(), key=lambda item: item[1].number))


def cast(lesson: Lesson, runs: pd.DataFrame) -> dict[str, list[str]]:
    """Method -> ids of finished runs that can be compared with one another, newest first.

    The lesson's own runs are taken where all are done; else, of the runs that share a protocol (same task, student,
    initial weights and training), those of the group with most of the methods, the newest such group.

    Args:
        runs: rows of `Store.runs`, newest first.
    """
    kinds = {key for key, task in TASKS.items() if task.kind == "classification"}
    fit = runs[(runs["state"] == "done") & runs["method"].isin(lesson.uses) & runs["task"].isin(kinds)]
    own = fit[fit["config_hash"].isin([config_hash(run) for run in lesson.made_by()])]
    groups = (
        [own] if set(own["method"]) == set(lesson.uses) else [rows for _, rows in fit.groupby("protocol", sort=False)]
    )
    best = max(groups, key=lambda rows: rows["method"].nunique(), default=fit)
    return {method: list(best.loc[best["method"] == method, "id"]) for method in lesson.uses}


def address(key: str, number: int, found: dict[str, list[str]]) -> tuple[str, dict[str, str]]:
    """The page of a step (from 1) and the parameters of its link."""
    step = lessons()[key].steps[number - 1]
    query = {"lesson": key, "step": str(number), **step.view}
    if step.run and found.get(step.run):
        query["job"] = found[step.run][0]
    if chosen := [run for method in step.runs for run in found.get(method, [])][:MOST_RUNS]:
        query["runs"] = ",".join(chosen)
    if step.race and all(map(found.get, step.race)):
        query["race"] = ",".join(found[method][0] for method in step.race)
    return f"pages/{step.page}.py", query


def bar() -> None:
    """The step that the address names, on top of the page; nothing where it names none."""
    asked = st.query_params.get("lesson")
    if asked is None:
        return
    with cards.guarded("The lesson cannot be shown"):
        lesson = lessons().get(asked)
        if lesson is None:
            st.warning(f"There is no lesson {plain(asked, 60)}.", icon=":material/link_off:")
            del st.query_params["lesson"]
            return
        typed = st.query_params.get("step", "1")
        number = min(max(int(typed) if typed.isdecimal() and len(typed) < 4 else 1, 1), len(lesson.steps))
        st.query_params["step"] = str(number)  # a link to the page one is on does not change the browser's address
        _bar(asked, lesson, number)


def _bar(key: str, lesson: Lesson, number: int) -> None:
    step = lesson.steps[number - 1]
    runs = the_store().runs(include_archived=True)
    found = cast(lesson, runs)
    _choose(address(key, number, found)[1], set(runs["id"]))
    with st.container(border=True, key="lesson_bar"):
        st.caption(f":material/school: {lesson.title} · step {number} of {len(lesson.steps)}")
        st.markdown(f"##### {step.title}")
        st.markdown(step.text)
        st.info(step.question, icon=":material/help:")
        with st.expander("What to look for"):
            st.markdown(step.answer)
        _missing(lesson, step, found, runs)
        with st.container(horizontal=True, key="lesson_doors"):
            if number > 1:
                _door("Previous", ":material/arrow_back:", key, number - 1, found)
            if number < len(lesson.steps):
                _door("Next", ":material/arrow_forward:", key, number + 1, found)
            st.page_link("pages/learn.py", label="All lessons", icon=":material/school:",
                         query_params={"part": "Lessons"}, width="content")  # fmt: skip
    _style()
    _hide(step.hide)


def _choose(query: dict[str, str], known: set[str]) -> None:
    """A link that was handed out names no runs, or those of another store: then the step's runs here are chosen."""
    for name in ("job", "runs", "race"):
        if name in query and not set(st.query_params.get(name, "").split(",")) <= known:
            st.query_params[name] = query[name]


def _door(label: str, icon: str, lesson: str, number: int, found: dict[str, list[str]]) -> None:
    """A link to a step. Buttons could not do it: they may not change what the present page has in its address."""
    page, query = address(lesson, number, found)
    st.page_link(page, label=label, icon=icon or None, query_params=query, width="content")


def _style() -> None:
    """All doors look alike; Streamlit would mark those that lead to the very page one is on."""
    st.html(
        '<style>[class*="st-key-lesson_doors"] a { background: none; border-radius: 0.5rem; '
        "border: 1px solid color-mix(in srgb, currentColor 25%, transparent); } "
        '[class*="st-key-lesson_doors"] a * { font-weight: 600; }</style>'
    )


def _hide(keys: tuple[str, ...]) -> None:
    """Leaves out the controls of these keys. Streamlit gives every keyed element a class of its own."""
    if keys:
        classes = ", ".join(f".st-key-{re.sub('[^A-Za-z0-9_-]', '-', key)}" for key in keys)
        st.html(f"<style>{classes} {{ display: none }}</style>")


def _missing(lesson: Lesson, step: Step, found: dict[str, list[str]], runs: pd.DataFrame) -> None:
    """Which runs the step lacks, and the click that makes them."""
    wanted = list(dict.fromkeys([*([step.run] if step.run else []), *step.runs]))
    missing = [METHODS[method].title for method in wanted if not found.get(method)]
    measured = [step.probe in the_store().probes(found[method][0]) for method in wanted if found.get(method)]
    if missing:
        st.warning(f"This step needs a finished run of {listed(missing)} on a task with classes.")
    elif step.probe and not any(measured):
        st.warning(f"The runs at hand were trained without the probe of {PROBES[step.probe]}, which this step shows.")
    else:
        return
    _offer(lesson, runs, f"lesson_queue_{lesson.number}")
    if read_only():
        st.caption("They cannot be started on this read-only dashboard; ask whoever runs it.")


def _offer(lesson: Lesson, runs: pd.DataFrame, key: str) -> None:
    """How far the lesson's own runs are, or the click that queues them."""
    wanted = [config_hash(run) for run in lesson.made_by()]
    own = runs[runs["config_hash"].isin(wanted)]
    under_way = own[own["state"].isin(["queued", *ACTIVE])]
    if len(under_way):
        left = under_way["config_hash"].nunique()
        st.fragment(_wait, run_every=3.0)(list(under_way["id"]))
        st.caption(f"{left} of the lesson's {len(wanted)} runs are being made.")
        st.page_link("pages/live.py", label="Watch them", icon=":material/monitoring:", width="content",
                     query_params={"job": under_way["id"].iloc[-1]})  # fmt: skip
    elif own.loc[own["state"] == "done", "config_hash"].nunique() < len(wanted):
        words = f"Queue this lesson's own {len(wanted)} runs"
        if action(
            words, key=key, icon=":material/play_arrow:", help="Small students on a generated task; minutes on a CPU"
        ):
            with cards.guarded("The lesson's runs could not be queued"):
                _queue(lesson)
                st.rerun()


def _queue(lesson: Lesson) -> None:
    """Queues what is not there yet; a run with the same settings is not made twice."""
    for run in lesson.made_by():
        the_store().ensure(run, sweep=None if lesson.runs == "demo" else lesson.runs.name)
    worker()


def _wait(ids: list[str]) -> None:
    """Draws the page again when one of these runs has ended."""
    waiting = the_store().runs(states=["queued", *ACTIVE])
    if not set(ids) <= set(waiting["id"]):
        st.rerun()


def catalogue() -> None:
    """All lessons, as cards with their first step's link and the runs they use."""
    _style()
    runs = the_store().runs(include_archived=True)
    st.markdown(
        "Each lesson leads over pages of this dashboard with a text and a question on top. It works with the runs that "
        "are here; a step's address can be bookmarked and handed out."
    )
    for place, (key, lesson) in zip(st.columns(len(lessons())), lessons().items(), strict=True):
        with place.container(border=True, height="stretch", key=f"lesson_{key}"):
            found = cast(lesson, runs)
            st.markdown(f"##### {lesson.number}. {lesson.title}")
            st.markdown(lesson.about)
            st.caption(f"{len(lesson.steps)} steps, about {lesson.minutes} minutes. {_cast_words(lesson, found, runs)}")
            with st.container(key=f"lesson_doors_{key}"):
                _door("Begin", ":material/play_arrow:", key, 1, found)
            with st.expander("Steps"):
                for number, step in enumerate(lesson.steps, start=1):
                    _door(f"{number}. {step.title}", "", key, number, found)
            _offer(lesson, runs, f"lesson_own_{key}")


def _cast_words(lesson: Lesson, found: dict[str, list[str]], runs: pd.DataFrame) -> str:
    """Which runs the lesson uses, and which are missing."""
    chosen = {method: ids[0] for method, ids in found.items() if ids}
    missing = [METHODS[method].title for method in lesson.uses if method not in chosen]
    words = []
    if chosen:
        task = runs.set_index("id").loc[next(iter(chosen.values())), "task"]
        words.append(f"Uses {listed(METHODS[method].title for method in chosen)} on {plain(task_title(str(task)))}.")
    if missing:
        words.append(f"Not here yet: {listed(missing)}.")
    return " ".join(words)
