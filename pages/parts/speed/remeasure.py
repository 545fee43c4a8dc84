"""Measuring on a click: compression baselines, and the students' times once more."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from kdcore.paths import run_dir
from kdcore.runs.remeasure import Order, baseline_orders, missing_baselines, timing_orders
from kdcore.store import ACTIVE, Store
from pages.parts.common.measurement import REFRESH_SECONDS, problems, progress, remeasurer
from pages.parts.common.read_only import action
from pages.parts.common.text import listed, plain

BASELINES = (
    "What distillation must beat: the same teacher, compressed without any training. Stored and run in bf16; with its "
    "linear layers in int8 (torch's dynamic quantisation, on the CPU); cut to the layers that the student starts from. "
    "Each keeps the precision it is named for; students in int8 are measured under Runtimes."
)
TIMES = "latency"
"""The probe that is taken here; baselines come with it."""
TIMING = "student and teachers in turn, batch 1 and 32, on the mean dev row, on this machine; their memory, too"


def show(store: Store, runs: pd.DataFrame, costs: pd.DataFrame) -> None:
    """What can be measured and what could not; or, while something is measured, how far it is.

    Args:
        runs: the chosen ones. costs: their `cost_table.readings`.
    """
    st.caption(BASELINES)
    background = remeasurer()
    if background.working:
        st.fragment(progress, run_every=REFRESH_SECONDS)(background)
        return
    orders, lost = baseline_orders(store, runs)
    if not store.runs(states=ACTIVE, include_archived=True).empty:
        st.caption(":material/warning: A training is running: times taken now are marked as taken on a busy machine.")
    with st.container(horizontal=True):
        _buttons(store, runs, costs, orders)
    for (teacher, kind), reason in missing_baselines(store, list(runs["id"])).items():
        st.caption(f"Teacher {plain(teacher)}, {plain(kind)}: not measured, {plain(reason, 300)}.")
    if lost:
        st.caption(f"No longer on this disk, so without baselines: {listed(map(plain, lost))}.")
    if not orders and not lost:
        st.caption("The chosen runs have no teacher, so there are no baselines.")
    problems(background, TIMES, set(runs["id"]))


def kept(run: str) -> bool:
    """Whether the run's student is on this disk."""
    return (run_dir(run) / "student-best").is_dir()


def time_again(store: Store, runs: pd.DataFrame, costs: pd.DataFrame, key: str) -> None:
    """A button that times sizes which were not timed on a quiet machine; why there is none, where there is none."""
    if remeasurer().working:
        st.caption("They are being timed now, see below.")
        return
    again, untimed = timing_orders(runs, costs)
    if not again:
        st.caption("The models are no longer on this disk, so they cannot be timed here.")
        return
    if action("Time again", key=key, icon=":material/timer:", help=_help(again, untimed)):
        _begin(store, again)


def _help(orders: Sequence[Order], untimed: bool) -> str:
    which = "Sizes that were not measured yet, or on a busy machine" if untimed else "Every size once more"
    return f"{which} ({len(orders)} run{'' if len(orders) == 1 else 's'}): {TIMING}"


def _buttons(store: Store, runs: pd.DataFrame, costs: pd.DataFrame, orders: Sequence[Order]) -> None:
    if orders and action(
        "Measure the baselines", key="speed_rivals", icon=":material/compare_arrows:",
        help="Scores them on the dev split and times them in turn with student and teachers, on this machine: "
        "seconds for a small model, minutes for a large dev split",
    ):  # fmt: skip
        _begin(store, orders)
    again, untimed = timing_orders(runs, costs)
    if again and action("Time the students", key="speed_again", icon=":material/timer:", help=_help(again, untimed)):
        _begin(store, again)


def _begin(store: Store, orders: Sequence[Order]) -> None:
    remeasurer().begin(store, orders, probe=TIMES)
    st.rerun()
