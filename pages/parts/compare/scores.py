"""Final scores: a dot per seed, the gap to a baseline, and the table."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from kdcore.analysis.blind_guess import groups_at_guess
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.score_numbers import UNITS, score_numbers
from kdcore.analysis.teacher_scores import best_teacher_score
from kdcore.figures import scores
from kdcore.formatting import listed
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.downloads import downloads
from pages.parts.common.plot import Click
from pages.parts.common.text import hundredfold, metric_title, plain

COLUMNS = ["id", "name", "label", "method", "seed", "score", "select_score", "last_score"]


def baseline(comparison: Comparison) -> Comparison:
    """The comparison against the group that a person chooses."""
    labels = comparison.labels
    picked = st.selectbox(
        "Baseline",
        list(labels),
        index=list(labels).index(comparison.baseline),
        format_func=lambda group: labels.get(group, group),
        key="base",
        bind="query-params",
        help="Differences below are to the baseline's run of the same seed",
    )
    return comparison.with_baseline(picked) if picked in labels else comparison


def show(store: Store, comparison: Comparison, evaluations: pd.DataFrame) -> None:
    if comparison.finished.empty:
        cards.empty("No run is finished yet; final scores come with the end of a run.")
    else:
        _dots(comparison, evaluations)
    table = comparison.table()
    st.dataframe(table, hide_index=True, key="compare_table", alt="Mean and std of each group over its seeds")
    st.caption(
        f"{metric_title(comparison.metric)}, mean ± sample std over N seeds of finished runs; Δ over pairs of like "
        "seed, version and machine. Training: the loop alone, without making and asking teachers. This table names no "
        "winner: that takes a test, below."
    )
    downloads(
        lambda: score_numbers(store, comparison),
        "Download the table",
        "comparison",
        "compare_comparison_",
        {**about(comparison), "baseline": comparison.labels[comparison.baseline], "units": UNITS},
    )


def about(comparison: Comparison) -> dict[str, Any]:
    """What a file of this page says of its scores."""
    return {
        "task": comparison.task,
        "metric": comparison.metric,
        "split": "dev, the first of the task's dev splits; select are training rows kept aside",
        "runs": list(comparison.runs["id"]),
    }


def _dots(comparison: Comparison, evaluations: pd.DataFrame) -> None:
    """Scores on the left, differences to the baseline on the right; a click opens the run."""
    gaps = comparison.gaps()
    left, right = (st.container(), None) if gaps.empty else st.columns(2)
    with left:
        first = _scores(comparison, evaluations)
    second = None
    if right:
        with right:
            second = _gaps(gaps, comparison)
    if clicked := first or second:
        st.switch_page("pages/live.py", query_params={"job": str(clicked.custom[0])})


def _scores(comparison: Comparison, evaluations: pd.DataFrame) -> Click | None:
    dark = cards.dark()
    title = metric_title(comparison.metric)
    teacher = best_teacher_score(evaluations, comparison.metric)
    dev = evaluations.loc[evaluations["split"] != "select", "rows"]
    rows = int(dev.max()) if len(dev) else 0
    _warn_of_guesses(comparison, rows)
    return cards.figure(
        lambda: scores.dots(
            comparison.finished, f"{title}, dev split", teacher=teacher, guess=comparison.blind_guess, dark=dark
        ),
        "compare_finals",
        f"Students chosen by *select*, scored once on up to {rows} dev rows. One dot per seed; the bar is the mean, "
        "the whisker ± std over seeds. Click a dot to open its run.",
        data=comparison.finished[COLUMNS],
        how="The student with the best score on *select* (training rows kept aside) is scored on the dev split, "
        "which decides nothing. Std is the sample's (N − 1).",
        on_click="rerun",
        about=about(comparison),
    )


def _warn_of_guesses(comparison: Comparison, rows: int) -> None:
    guess = comparison.blind_guess
    if guess is None:
        return
    if labels := groups_at_guess(comparison.finished, comparison.metric, guess, rows):
        st.warning(
            f"No better than a blind guess ({hundredfold(guess)}, the most frequent label always): "
            f"{plain(listed(labels), 300)}. Differences between such scores say nothing of a method.",
            icon=":material/warning:",
        )


def _gaps(gaps: pd.DataFrame, comparison: Comparison) -> Click | None:
    dark = cards.dark()
    name = comparison.labels[comparison.baseline]
    return cards.figure(
        lambda: scores.dots(gaps, f"Δ {metric_title(comparison.metric)} to the baseline", baseline=name, dark=dark),
        "compare_deltas",
        f"One dot per seed: its score less that of **{plain(name)}** with the same seed.",
        data=gaps[COLUMNS[:-2]],
        how="Runs of one seed, version and machine share data order and initial weights, so their difference has less "
        "chance in it than the difference of two means.",
        on_click="rerun",
        about=about(comparison) | {"baseline": name, "units": {"score": "fraction of 1, less the baseline's"}},
    )
