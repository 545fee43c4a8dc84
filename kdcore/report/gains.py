"""What a report says of where the best student's score comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from kdcore.analysis import ablation
from kdcore.analysis.teacher_scores import best_teacher_score
from kdcore.analysis.variants import variants
from kdcore.figures import variants as variant_figures
from kdcore.figures.waterfall import waterfall
from kdcore.formatting import metric_title
from kdcore.report.parts import figure, paragraph
from kdcore.report.sections import TaskReport

NUMBERS = {"mean": "mean", "gain": "gain", "low": "from", "high": "to", "total": "over the first"}
CHANGED = {"mean": "mean", "change": "change", "low": "from", "high": "to"}
"""Column of `ablation.table`, and of `variants` -> its name in the report."""


def gains(report: TaskReport) -> Iterator[str]:
    """The steps from gold labels to the best student that had a teacher, and that student without its parts."""
    comparison = report.comparison
    top = ablation.best_taught(comparison)
    if top is None:
        return
    rows = ablation.table(ablation.climb(comparison, top), comparison.finished)
    title = f"{metric_title(report.metric)}, dev split"
    teacher = best_teacher_score(report.evaluations, report.metric)
    if text := ablation.summary(rows):
        yield paragraph(f"{comparison.labels[top]}: {text}")
    yield figure(
        lambda dark: waterfall(rows, title, teacher=teacher, dark=dark),
        f"{ablation.CHANGES} Means over {ablation.seeds_text(rows)}; whiskers: {ablation.LEVEL:.0%} interval of the "
        "step's gain.",
        (100 * rows[list(NUMBERS)])
        .round(2)
        .rename(columns=NUMBERS)
        .assign(N=rows["n"])
        .set_axis(rows["label"])
        .reset_index(names="step"),
    )
    yield from _without(report, top, title)


def _without(report: TaskReport, top: str, title: str) -> Iterator[str]:
    """The same student with one part less, where such runs are among those compared."""
    comparison = report.comparison
    rows = variants(comparison, top)
    known = rows[rows["change"].notna()]
    if known.empty:
        return
    method, label = str(comparison.members(top)["method"].iloc[0]), comparison.labels[top]
    yield figure(
        lambda dark: variant_figures.variants(known, title, label, method, dark=dark),
        f"{label} with one setting changed. Left of the line: it scores less. Whiskers: {ablation.LEVEL:.0%} interval "
        "over the seeds that both have; where it crosses the line, within seed noise.",
        _numbers(known, "changed", CHANGED).assign(seeds=list(known["seeds"])),
    )


def _numbers(rows: pd.DataFrame, first: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """Labels, these columns in hundredths, and how many runs they rest on."""
    points = (100 * rows[list(columns)]).round(2).rename(columns=columns)
    points.insert(0, first, rows["label"])
    return points.assign(N=rows["n"])
