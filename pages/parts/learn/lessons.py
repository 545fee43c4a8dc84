"""The lessons: files in `pages/lessons/`.

Each step of a lesson names a page, what is chosen there, and which controls are hidden. Runs are named by their method
and looked up in the store, so that a lesson works with the runs that are there.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from kdcore.config import RunConfig, Settings
from kdcore.identity import config_hash
from kdcore.runs.demo import demo_runs
from kdcore.runs.sweep import Grid, expand
from kdcore.settings_file import read_settings, validate
from kdcore.tasks import TASKS
from pages.parts.common.keys import JOB, LESSON, RACE, RUNS, STEP

FOLDER = Path(__file__).resolve().parents[2] / "lessons"
MOST_RUNS = 24
"""Runs of one step's comparison."""

RunsByMethod = dict[str, list[str]]
"""Method -> ids of finished runs that can be compared with one another, newest first."""


class Step(Settings):
    """One view with its text. run, runs: methods whose runs are shown there. probe: what must have been measured."""

    title: str
    text: str
    question: str
    answer: str = Field(description="shown on a click")
    page: str = Field(pattern=r"^[a-z_]+$")
    view: dict[str, str] = Field(default_factory=dict, description="URL parameters besides lesson and runs")
    run: str | None = None
    runs: tuple[str, ...] = ()
    race: tuple[()] | tuple[str, str] = Field((), description="methods whose runs race on Compare")
    probe: Literal["", "distances", "latency"] = ""
    figure: str = Field(pattern=r"^[a-z_0-9]+$", description="key of what the question is about")
    hide: tuple[str, ...] = Field((), description="keys of controls that are hidden in this step")


class Poll(Settings):
    """A guess to make before a lesson."""

    question: str
    choices: tuple[str, ...] = Field(min_length=2)


class Lesson(Settings):
    """A lesson. runs: what makes its runs, the demo or a grid as in `kdcore.runs.sweep`. uses: their methods."""

    number: int
    title: str
    about: str
    minutes: int
    uses: tuple[str, ...]
    runs: Literal["demo"] | Grid
    poll: Poll
    steps: tuple[Step, ...] = Field(min_length=2)
    summary: tuple[str, ...] = Field(min_length=1, description="what to keep in mind")

    def made_by(self) -> list[RunConfig]:
        """The runs to queue for this lesson."""
        runs = demo_runs() if isinstance(self.runs, str) else [cell.run for cell in expand(self.runs)]
        return [run for run in runs if run.method in self.uses]


@cache
def lessons() -> dict[str, Lesson]:
    """Key (the file's name) -> lesson, in the order of their numbers.

    Raises:
        UserError: a file that cannot be read; the field is named.
    """
    by_key = {path.stem: validate(Lesson, read_settings(path), path.name) for path in FOLDER.glob("*.yaml")}
    return dict(sorted(by_key.items(), key=lambda item: item[1].number))


def runs_of(lesson: Lesson, runs: pd.DataFrame) -> RunsByMethod:
    """The finished runs that the lesson shows.

    The lesson's own runs, and other seeds of them, are taken where all are done; else, of the runs that share a
    protocol (same task, student, initial weights and training), those of the group with most of the methods, the
    newest such group.

    Args:
        runs: rows of `Store.runs`, newest first.
    """
    kinds = {key for key, task in TASKS.items() if task.kind == "classification"}
    fit = runs[(runs["state"] == "done") & runs["method"].isin(lesson.uses) & runs["task"].isin(kinds)]
    own = fit[fit["config_hash"].isin([config_hash(run) for run in lesson.made_by()])]
    complete = set(own["method"]) == set(lesson.uses)
    like_own = fit[fit["protocol"].isin(own["protocol"])]  # with the other seeds of the same settings
    groups = [like_own] if complete else [rows for _, rows in fit.groupby("protocol", sort=False)]
    best = max(groups, key=lambda rows: rows["method"].nunique(), default=fit)
    return {method: list(best.loc[best["method"] == method, "id"]) for method in lesson.uses}


def address(key: str, number: int, by_method: RunsByMethod) -> tuple[str, dict[str, str]]:
    """The page of a step (from 1) and the URL parameters of its link."""
    step = lessons()[key].steps[number - 1]
    query = {LESSON: key, STEP: str(number), **step.view}
    if step.run and by_method.get(step.run):
        query[JOB] = by_method[step.run][0]
    if chosen := [run for method in step.runs for run in by_method.get(method, [])][:MOST_RUNS]:
        query[RUNS] = ",".join(chosen)
    if step.race and all(map(by_method.get, step.race)):
        query[RACE] = ",".join(by_method[method][0] for method in step.race)
    return f"pages/{step.page}.py", query
