"""A lesson on paper: one HTML file with its questions, room for answers, and the scores of its runs."""

from __future__ import annotations

import re
from html import escape

import pandas as pd

from pages.parts.common.text import task_title
from pages.parts.learn.lesson_address import RunsByName
from pages.parts.learn.lessons import Lesson

_STYLE = (
    "body{font:12pt/1.5 sans-serif;max-width:44em;margin:2em auto;padding:0 1em}"
    ".room{border:1px solid #999;height:7em;margin:.5em 0 1.5em}section{break-inside:avoid}"
    "table{border-collapse:collapse}td,th{border:1px solid #999;padding:.2em .6em;text-align:left}"
)


def handout(lesson: Lesson, by_name: RunsByName, runs: pd.DataFrame) -> str:
    """A page without script and without a request, for the printer.

    Args:
        runs: rows of `Store.runs`; those of the lesson are listed with their scores.
    """
    choices = "".join(f"<li>☐ {_prose(choice)}</li>" for choice in lesson.poll.choices)
    steps = "".join(
        f"<section><h2>{number}. {escape(step.title)}</h2><p>{_prose(step.text)}</p>"
        f"<p><b>{_prose(step.question)}</b></p><div class=room></div></section>"
        for number, step in enumerate(lesson.steps, start=1)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(lesson.title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(lesson.title)}</h1><p>{_prose(lesson.about)}</p>"
        f"<h2>Before</h2><p>{_prose(lesson.poll.question)}</p><ul style='list-style:none'>{choices}</ul>"
        f"{steps}{_scores(lesson, by_name, runs)}</html>"
    )


def _scores(lesson: Lesson, by_name: RunsByName, runs: pd.DataFrame) -> str:
    """A table of the runs: what they are, seed, score in percent."""
    rows = "".join(
        f"<tr><td>{escape(lesson.run_title(name))}</td><td>{row['seed']}</td><td>{100 * row['score']:.1f}</td></tr>"
        for name, ids in by_name.items()
        for _, row in runs[runs["id"].isin(ids)].sort_values("seed").iterrows()
    )
    if not rows:
        return ""
    task = runs.set_index("id").loc[next(run for ids in by_name.values() for run in ids), "task"]
    head = "<tr><th>run</th><th>seed</th><th>score (%)</th></tr>"
    return f"<h2>The runs on {escape(task_title(str(task)))}</h2><table>{head}{rows}</table>"


def _prose(text: str) -> str:
    """A lesson's text: its bold and slanted words are kept."""
    bold = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))
    return re.sub(r"\*(.+?)\*", r"<i>\1</i>", bold)
