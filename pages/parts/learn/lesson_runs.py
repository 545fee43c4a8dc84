"""The runs a lesson needs: which are missing, and the click that queues them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.identity import config_hash
from kdcore.store import UNFINISHED
from pages.parts.common import cards
from pages.parts.common.keys import JOB, RUNS
from pages.parts.common.read_only import action, read_only
from pages.parts.common.run_picker import MOST_RUNS, the_store
from pages.parts.common.sidebar import worker
from pages.parts.common.text import listed
from pages.parts.learn.lesson_address import RunsByName
from pages.parts.learn.lessons import Lesson, Step

PROBES = {"distances": "layer distances", "latency": "latency"}


def missing(lesson: Lesson, step: Step, by_name: RunsByName, runs: pd.DataFrame) -> None:
    """Names the runs or measurements the step lacks, and offers to make them."""
    names = step.names
    absent = [lesson.run_title(name) for name in names if not by_name.get(name)]
    measured = [step.probe in the_store().probes(by_name[name][0]) for name in names if by_name.get(name)]
    if absent:
        st.warning(f"This step needs a finished run of {listed(absent)} on a classification task.")
    elif step.probe and not any(measured):
        st.warning(f"These runs were trained without the probe of {PROBES[step.probe]}, which this step shows.")
    else:
        return
    offer(lesson, runs, f"lesson_queue_{lesson.number}")
    if read_only():
        st.caption("They cannot be started on this read-only dashboard; ask whoever runs it.")


def offer(lesson: Lesson, runs: pd.DataFrame, key: str) -> None:
    """How far the lesson's own runs are, or the button that queues them."""
    hashes = [config_hash(run) for run in lesson.configs().values()]
    own = runs[runs["config_hash"].isin(hashes)]
    unfinished = own[own["state"].isin(UNFINISHED)]
    if len(unfinished):
        left = unfinished["config_hash"].nunique()
        st.fragment(_wait, run_every=3.0)(list(unfinished["id"]))
        st.caption(f"{left} of the lesson's {len(hashes)} runs are queued or running.")
        query = {JOB: unfinished["id"].iloc[-1], RUNS: ",".join(own["id"][::-1][:MOST_RUNS])}
        st.page_link("pages/live.py", label="Watch them", icon=":material/monitoring:", width="content",
                     query_params=query)  # fmt: skip
    elif own.loc[own["state"] == "done", "config_hash"].nunique() < len(hashes):
        label = f"Queue this lesson's own {len(hashes)} runs"
        help_text = "Small students on a generated task; minutes on a CPU"
        if action(label, key=key, icon=":material/play_arrow:", help=help_text):
            with cards.guarded("The lesson's runs could not be queued"):
                _queue(lesson)
                st.rerun()


def _queue(lesson: Lesson) -> None:
    """Queues what is not there yet; a run with the same settings is not made twice."""
    for run in lesson.configs().values():
        the_store().ensure(run, sweep=f"lesson-{lesson.number}")
    worker()


def _wait(ids: list[str]) -> None:
    """Draws the page again when one of these runs has ended."""
    unfinished = the_store().runs(states=UNFINISHED)
    if not set(ids) <= set(unfinished["id"]):
        st.rerun()
