"""Scores of a run on select and dev splits, beside its teachers'."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis import teacher_scores
from kdcore.analysis.blind_guess import blind_guess_of
from kdcore.figures import curves
from kdcore.figures.template import Figure
from kdcore.store import RunRow, Store
from pages.parts.common import cards
from pages.parts.common.plot_data import plot_data
from pages.parts.common.text import hundredfold, metric_title, plain, task_of
from pages.parts.live.figure_cache import reuse
from pages.parts.live.point_cache import life

HOW = (
    "The student is scored in eval mode on whole splits: *select* (held-out training rows for model selection, drawn "
    "by a seed) is what every decision uses, the dev split is only reported."
)


def show(store: Store, row: RunRow) -> None:
    version = (life(row), store.evaluated(row.id))
    evaluations = reuse("live_evaluations", version, lambda: store.evaluations([row.id]))
    if evaluations.empty:
        return
    st.subheader("Scores", anchor=False)
    dark = cards.dark()
    metric, rows, lines = reuse("live_best", version, lambda: _describe(row.task, evaluations))
    guess = blind_guess_of(row.facts, metric)
    cards.figure(
        lambda: reuse(
            "live_scores",
            (version, guess, dark),
            lambda: plot_data(_figure(evaluations, metric, guess, dark)),
        ),
        "live_scores",
        f"One seed; dev split of up to {rows} rows is only reported, decisions use select.",
        data=evaluations,
        follows=row.id,
        how=HOW,
    )
    for line in lines:
        st.markdown(line)


def _describe(task: str, evaluations: pd.DataFrame) -> tuple[str, int, list[str]]:
    """The metric that is drawn, the rows of the largest split, and the scores of the student that `select` chose."""
    metric = _main_metric(task, evaluations)
    best = evaluations[(evaluations["which"] == "best") & (evaluations["metric"] == metric)]
    lines = [
        f"Student chosen by *select*: {metric_title(metric)} **{hundredfold(score['value'])}** "
        f"({curves.split_title(score['split'])}, {int(score['rows'])} rows, one seed)."
        for _, score in best[best["split"] != "select"].iterrows()
    ]
    lines += _learners(evaluations[evaluations["metric"] == metric], metric)
    return metric, int(evaluations["rows"].max()), lines


def _learners(evaluations: pd.DataFrame, metric: str) -> list[str]:
    """What the other models score that the method trained: a line a split."""
    rows = evaluations[evaluations["which"].str.startswith("learner:")]
    lines = []
    for split, found in rows.groupby("split", sort=False):
        scores = dict(zip(found["which"].str.removeprefix("learner:"), found["value"], strict=True))
        names = sorted(scores, key=lambda who: (who.startswith("mean of"), who != "student", who))
        each = (f"{plain(who)} **{hundredfold(scores[who])}**" for who in names)
        where = f"{metric_title(metric)}, {curves.split_title(str(split))}"
        lines.append(f"All models that this run trained, at its end: {' · '.join(each)} ({where}).")
    return lines


def _main_metric(task: str, evaluations: pd.DataFrame) -> str:
    """The task's metric, or the first that was measured."""
    known, measured = task_of(task), list(dict.fromkeys(evaluations["metric"]))
    return known.main_metric if known and known.main_metric in measured else str(measured[0])


def _figure(evaluations: pd.DataFrame, metric: str, guess: float | None, dark: bool) -> Figure:
    students = evaluations[evaluations["which"].isin(["last", "best"])]
    of_teachers = teacher_scores.teacher_scores(evaluations, metric)
    teachers = dict(zip(of_teachers["teacher"], of_teachers["value"], strict=True))
    return curves.scores(students, metric, metric_title(metric), teachers, guess, dark)
