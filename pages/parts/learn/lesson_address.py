"""The runs of a store that a lesson shows, and the address of each step, so that a lesson works with what is there."""

from __future__ import annotations

import pandas as pd

from kdcore.identity import group_key
from kdcore.tasks import TASKS
from pages.parts.common.keys import JOB, LESSON, RACE, RUNS, STEP
from pages.parts.learn.lessons import Lesson, lessons

MOST_RUNS = 24
"""Runs of one step's comparison."""

RunsByName = dict[str, list[str]]
"""A run's name within its lesson -> ids of finished runs that can be compared with one another, newest first."""


def runs_of(lesson: Lesson, runs: pd.DataFrame) -> RunsByName:
    """The finished runs that the lesson shows.

    Its own, of every seed, where each of its names has one. Else, where its methods tell its runs apart, those that
    share a protocol (same task, student, initial weights and training): of the group with most of the methods, the
    newest such group.

    Args:
        runs: rows of `Store.runs`, newest first.
    """
    done = runs[runs["state"] == "done"]
    own = {name: list(done.loc[_of_group(done, group_key(run)), "id"]) for name, run in lesson.configs().items()}
    names = {run.method: name for name, run in lesson.runs.items()}
    if all(own.values()) or len(names) < len(lesson.runs):
        return own
    kinds = {key for key, task in TASKS.items() if task.kind == "classification"}
    fit = done[done["method"].isin(names) & done["task"].isin(kinds)]
    groups = [rows for _, rows in fit.groupby("protocol", sort=False)]
    best = max(groups, key=lambda rows: rows["method"].nunique(), default=fit)
    return {name: list(best.loc[best["method"] == method, "id"]) for method, name in names.items()}


def _of_group(runs: pd.DataFrame, key: str) -> list[bool]:
    """Which runs have these settings. What follows the dash in a group's name tells rows and weights apart."""
    return [str(group).partition("-")[0] == key for group in runs["group"]]


def address(key: str, number: int, by_name: RunsByName) -> tuple[str, dict[str, str]]:
    """The page of a step (from 1) and the URL parameters of its link."""
    step = lessons()[key].steps[number - 1]
    query = {LESSON: key, STEP: str(number), **step.view}
    if step.run and by_name.get(step.run):
        query[JOB] = by_name[step.run][0]
    if chosen := [run for name in step.runs for run in by_name.get(name, [])][:MOST_RUNS]:
        query[RUNS] = ",".join(chosen)
    if step.race and all(map(by_name.get, step.race)):
        query[RACE] = ",".join(by_name[name][0] for name in step.race)
    return f"pages/{step.page}.py", query
