"""Under which conditions costs were measured, and what quality is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common.keys import SPEED_METRIC, SPEED_PLACE
from pages.parts.common.text import metric_title


def choose(options: list[str]) -> str:
    if options == [""]:
        return ""
    option = st.selectbox(
        "Measured on",
        options,
        key=SPEED_PLACE,
        bind="query-params",
        help="Measurements on different hardware, precision, threads or length are never drawn in one plot",
    )
    return option if option in options else options[0]


def metric(options: list[str]) -> str:
    """Which score is set against the cost. options: the task's main metric first."""
    if len(options) < 2:
        return options[0]
    chosen = st.selectbox(
        "Score",
        options,
        key=SPEED_METRIC,
        bind="query-params",
        format_func=metric_title,
        help="On the dev split, of the student that `select` chose by the task's main metric",
    )
    return str(chosen) if chosen in options else options[0]


def quality_title(runs: pd.DataFrame, tasks: tuple[str, ...], average: bool) -> str:
    """Title of the quality axis."""
    if average:
        return f"Mean of {len(tasks)} tasks (×100), dev splits"
    metric = next((m for m in runs["metric"] if isinstance(m, str) and m), "accuracy")
    return f"{metric_title(metric)}, dev split"
