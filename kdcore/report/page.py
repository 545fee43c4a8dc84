"""Puts a report together: what was compared, task by task, then the methods, how all was computed, and versions."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from kdcore.analysis import ablation, fidelity, significance
from kdcore.analysis.comparison import compare
from kdcore.errors import UserError
from kdcore.figures.template import PLOTLY_JS
from kdcore.formatting import listed
from kdcore.methods import METHODS, docs
from kdcore.report import sections
from kdcore.report.gains import gains
from kdcore.report.parts import bullets, escape, formula, heading, listing, paragraph, prose
from kdcore.report.sections import TaskReport

if TYPE_CHECKING:
    from kdcore.store import Store

HERE = Path(__file__).resolve().parent
LOCKED = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""What the browser lets the file do: run its own script and style, and ask nobody for anything."""
HOW = (
    ("Scores", "A run trains one student. The student with the best score on select, training rows kept aside, is "
     "scored on the dev split, which decides nothing. Std is the sample's (N - 1). A difference is over pairs of "
     "runs of like seed, version and machine: they share data order and initial weights. Of several runs of one group "
     "and seed one counts: the newest of the version and machine that most have."),
    ("Is the difference real?", significance.HOW),
    ("Where the gain comes from", ablation.HOW),
    ("How closely students follow their teachers", fidelity.HOW),
    ("Curves", "A line is the mean over a group's seeds at each point that any of them logged, each seed interpolated "
     "only inside its own range. Losses are the values of single steps, without smoothing; those of two methods add up "
     "different terms."),
    ("Layers", "Linear CKA of two layers' hidden states over dev tokens (Kornblith et al. 2019, arXiv 1905.00414), "
     "with sums of unbiased HSIC over minibatches (Nguyen et al. 2021, arXiv 2010.15327): 1 where equal up to rotation "
     "and scale. It can change without a change in behaviour (arXiv 2210.16156)."),
    ("Speed", "Median over repeats of one forward pass in eval mode, student and teachers in turn; tokenisation is not "
     "counted."),
)  # fmt: skip
"""What is computed -> how."""


def html(store: Store, run_ids: Sequence[str], baseline: str | None = None, made: datetime | None = None) -> str:
    """The report on these runs, a whole HTML document of about 5 MB: plotly.js stands in it, once.

    Args:
        run_ids: of any tasks; runs that differ in nothing but the seed become one row. baseline: the run that the
            others are set against, with its seeds; by default training alone. made: the moment it is dated.

    Raises:
        UserError: no run is named, one is not in the store, or the baseline is not among them.
    """
    ids = list(dict.fromkeys(run_ids))
    if not ids:
        raise UserError("runs", "none is named", "name runs that `kdcore runs` lists")
    for run in ids:
        store.get(run)
    if baseline is not None and baseline not in ids:
        raise UserError("baseline", f"{baseline[:80]} is not among the runs", "name one of the runs that are compared")
    everything = store.runs(include_archived=True)
    chosen = everything[everything["id"].isin(ids)]
    comparisons = compare(store, chosen, baseline)
    if not comparisons:
        raise UserError("runs", "the settings of none of them can be read", "name other runs")
    runs = pd.concat([comparison.chosen for comparison in comparisons])
    tasks = [TaskReport.read(store, comparison) for comparison in comparisons]
    title = f"{listed((task.title for task in tasks), 3)}: {listed(_methods(runs), 6)}"
    body = [*_head(title, runs, made or datetime.now(UTC)), *_contents(tasks)]
    if len(tasks) > 1:
        body += _part("Scores by task", "tasks", lambda: sections.by_task(comparisons))
    for task in tasks:
        body += _task(task)
    body += _part("The methods", "methods", lambda: _method_sections(runs))
    body += _part("The runs", "runs", lambda: sections.all_runs(store, chosen))
    body += [heading(2, "How it was computed", "how"), listing(HOW)]
    body += _part("Versions, and how to draw this again", "versions", lambda: _again(store, runs, ids, baseline))
    return _document(title, "\n".join(body))


def _document(title: str, body: str) -> str:
    style, draw = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "draw.js"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{LOCKED}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="generator" content="KDBoard">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}"
        "<noscript><p>The plots need JavaScript; their numbers stand under them as tables.</p></noscript></main>"
        f"<script>{PLOTLY_JS.read_text(encoding='utf-8')}</script><script>{draw}</script></body></html>\n"
    )


def _head(title: str, runs: pd.DataFrame, made: datetime) -> Iterator[str]:
    yield f"<header>{heading(1, title)}"
    yield paragraph(
        f"{len(runs)} run{'s' if len(runs) != 1 else ''}, all trained by one engine; runs of one seed, "
        f"version and machine share data order and initial weights. Made on {made:%Y-%m-%d} with KDBoard.",
        "quiet",
    )
    yield "</header>"


def _contents(tasks: Sequence[TaskReport]) -> Iterator[str]:
    places = [("tasks", "Scores by task")] if len(tasks) > 1 else []
    places += [(task.anchor, task.title) for task in tasks]
    places += [("methods", "Methods"), ("runs", "Runs"), ("how", "How it was computed"), ("versions", "Versions")]
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, name in places)
    yield f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _task(report: TaskReport) -> Iterator[str]:
    """All that is said of one task."""
    yield f'<section aria-labelledby="{report.anchor}">{heading(2, report.title, report.anchor)}'
    yield from (f'<span class="badge">{escape(badge)}</span>' for badge in report.badges())
    for title, build in (
        ("What was compared", sections.conditions),
        ("Scores", sections.scores),
        ("Is the difference real?", sections.verdicts),
        ("Where the gain comes from", gains),
        ("How closely students follow their teachers", sections.fidelity),
        ("Curves", sections.curves),
        ("Layers: student against teacher", sections.layers),
        ("Layers: what the method reads out", sections.read_outs),
        ("Speed", sections.speed),
        ("Settings that differ", sections.settings),
    ):
        yield from _part(title, "", lambda build=build: build(report), level=3)  # type: ignore[misc]
    yield "</section>"


def _part(title: str, anchor: str, build: Callable[[], Iterator[str]], level: int = 2) -> Iterator[str]:
    """A heading and what stands under it; one damaged record costs one part, not the report."""
    try:
        inside = list(build())
    except Exception as error:
        inside = [paragraph(f"This part could not be made: {type(error).__name__}: {error}")]
    if inside:
        yield heading(level, title, anchor)
        yield from inside


def _methods(runs: pd.DataFrame) -> list[str]:
    return [METHODS[key].title if key in METHODS else str(key) for key in dict.fromkeys(runs["method"])]


def _method_sections(runs: pd.DataFrame) -> Iterator[str]:
    """Idea, equation and departures of each method, from its class."""
    for key in dict.fromkeys(runs["method"]):
        if key not in METHODS:
            yield paragraph(f"{key}: this program does not know the method.")
            continue
        method = METHODS[key]
        try:
            about = docs.read(method)
        except ValueError as error:  # of a method from outside
            yield paragraph(f"{key}: {error}.")
            continue
        yield heading(3, method.title)
        if origin := ", ".join(sorted({*runs.loc[runs["method"] == key, "method_origin"]} - {""})):
            yield paragraph(f"From outside: {origin}.", "quiet")
        yield prose(about.idea)
        names = {*about.terms, *method.Config.model_fields}
        for line in about.loss:
            yield formula(line.formula, names, line.stage)
            yield paragraph(line.aside, "quiet") if line.aside else ""
        yield listing([*about.terms.items(), *about.more.items()], names)
        yield prose("", "Where this differs from the paper.")
        yield bullets((departure.topic, departure.text) for departure in about.departs)
        for paper in method.papers:
            yield paragraph(f"{paper.reference}.", "quiet")


def _again(store: Store, runs: pd.DataFrame, ids: Sequence[str], baseline: str | None) -> Iterator[str]:
    """The versions that trained and those that drew, and the command that makes this file."""
    from kdcore.engine.machine import versions

    rows = store.rows(list(runs["id"]))
    facts = [rows[run].facts for run in runs["id"]]
    trained = [
        (f"trained with {name}", listed(dict.fromkeys(str(item[key]) for item in facts if item.get(key)), 6))
        for key, name in (("kdcore", "KDBoard"), ("torch", "torch"), ("python", "Python"))
    ]
    drawn = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield listing([*trained, ("this report was made with", drawn)])
    command = ["python", "-m", "kdcore", "report", *ids, *(["--baseline", baseline] if baseline else [])]
    yield f"<pre>{escape(shlex.join([*command, '--output', 'report.html']), 20_000)}</pre>"
