"""What the page says first: which method holds best, and whether that can be said."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis.beyond import TEACHER, Curves, area_verdict, areas, shared_levels
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.significance import MIN_PAIRED_SEEDS
from pages.parts.beyond.question import DAMAGES, NAMES, Question
from pages.parts.common.text import plain, task_title

ALONE = "fine-tune"


def show(comparison: Comparison, curves: Curves, asked: Question) -> None:
    with st.container(border=True, key="beyond_answer"):
        st.markdown(_said(curves, asked))
        levels = len(curves.levels)
        parts = [plain(task_title(comparison.task)), asked.y_title, f"{levels} level{'' if levels == 1 else 's'}"]
        if asked.of_training:
            parts.append("teachers of clean rows" if asked.clean_teacher else "teachers of the same rows")
        st.caption(" · ".join(parts))


def _said(curves: Curves, asked: Question) -> str:
    table = areas(curves, asked.quality)
    methods = curves.rows.drop_duplicates("label").set_index("label")["method"]
    students = table[[methods[label] != TEACHER for label in table["label"]]]
    name = DAMAGES[asked.damage].lower()
    if students.empty:
        return f":material/help: **Nothing is measured yet under {name}.** What is missing can be started below."
    best, number = students.iloc[0], NAMES[asked.quality]
    if len(curves.levels) < 2:
        return f":material/help: **There are only undamaged runs.** Their lines under {name} need the runs below."
    if len(shared_levels(curves, asked.quality)) < 2:
        return f":material/help: **These methods share no two levels under {name}**, so they cannot be ranked yet."
    rank = "the best" if len(students) > 1 else "a"
    claim = (
        f"Under {name}, **{plain(best['label'])}** has {rank} mean {number if number != 'Score' else 'score'}: "
        f"{asked.scale * best['area']:.{_digits(asked)}f}, from {asked.scale * best['first']:.{_digits(asked)}f} "
        f"undamaged to {asked.scale * best['worst']:.{_digits(asked)}f} at the worst level."
    )
    return f":material/balance: {claim} {_doubt(curves, students, methods, asked)}"


def _doubt(curves: Curves, students: pd.DataFrame, methods: pd.Series, asked: Question) -> str:
    """The best against training alone, or against the next one, as the verdicts have it."""
    labels = list(students["label"])
    if len(labels) < 2:
        return "Choose runs of a second method to compare it with."
    alone = next((label for label in labels[1:] if methods[label] == ALONE), labels[1])
    verdict = area_verdict(curves, labels[0], alone, asked.quality)
    gap = abs(asked.scale * verdict.gap)
    count = len(verdict.seeds)
    against = f"{gap:.{_digits(asked)}f} {'above' if verdict.gap > 0 else 'below'} {plain(alone)}"
    if not count:
        return (
            f"No seed of both it and {plain(alone)} has all levels on one machine and version: nothing can be tested."
        )
    seeds = f"{count} paired seed{'' if count == 1 else 's'}"
    if not verdict.enough:
        return f"That is {against} ({seeds}); whether it is more than chance takes {MIN_PAIRED_SEEDS}."
    ends = sorted(asked.scale * end for end in (verdict.low, verdict.high))
    interval = f"95 % interval {ends[0]:+.{_digits(asked)}f} to {ends[1]:+.{_digits(asked)}f}, {seeds}"
    return f"That is {against}: {'a real difference' if verdict.real else 'it can be chance'} ({interval})."


def _digits(asked: Question) -> int:
    return 1 if asked.scale == 100 else 3
