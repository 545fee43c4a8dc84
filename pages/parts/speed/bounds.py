"""What is asked of a student: a share of the teacher's score, and a cost."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis.cost_axes import Axis
from pages.parts.common.keys import SPEED_COST, SPEED_SHARE


def share() -> float:
    """The share of the best teacher's score that is wanted, as a fraction."""
    percent = st.number_input(
        "At least (% of teacher)",
        0.0,
        120.0,
        90.0,
        1.0,
        format="%g",
        key=SPEED_SHARE,
        bind="query-params",
        help="Of the best teacher's score on the dev split",
        width=180,
    )
    return float(percent) / 100


def cost(axis: Axis) -> float | None:
    """The bound on the cost in the axis's own unit; None where nothing was typed."""
    limit = "At most" if axis.better == "less" else "At least"
    typed = st.number_input(
        f"{limit} ({axis.bound})",
        min_value=0.0,
        value=None,
        format="%g",
        key=f"{SPEED_COST}-{axis.key}",
        bind="query-params",
        placeholder="any",
        width=180,
    )
    return None if typed is None else float(typed) * axis.scale
