"""The button of the launch page: queues the run, once for each seed that is asked for."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kdcore.config import RunConfig
from pages.parts.common import cards
from pages.parts.common.keys import JOB, RUNS
from pages.parts.common.queue_runs import check_queue
from pages.parts.common.selection import remember, remember_many
from pages.parts.common.sidebar import worker

MOST_SEEDS = 10
SEEDS = "launch.seeds"


def seed_count() -> int:
    """How many seeds the box asks for; it is drawn below what it changes."""
    return min(max(int(st.session_state.get(SEEDS) or 1), 1), MOST_SEEDS)


def seconds_of(forecast: Any, seeds: int) -> float:
    """What so many runs take one after the other; later seeds find the teachers made and asked."""
    return float(forecast.seconds + (seeds - 1) * (forecast.seconds - forecast.teacher_seconds))


def show(run: RunConfig, report: Any) -> None:
    """Draws it. report: of the pre-flight; None where the checks failed."""
    blocked = report is None or bool(report.blocks)
    with st.container(horizontal=True, vertical_alignment="bottom", key="launch_start"):
        st.number_input(
            "Seeds", 1, MOST_SEEDS, key=SEEDS, width=110,
            help="Queues the run so often, with seeds counting up from the one in the form",
        )  # fmt: skip
        pressed = st.button("Start", key="launch_go", type="primary", icon=":material/play_arrow:", disabled=blocked)
    if blocked:
        st.caption("Fix the errors above to enable Start.")
    if not pressed or blocked:
        return
    with cards.guarded("The run could not be queued"):
        _submit(run, seed_count(), report.forecast)


def _submit(run: RunConfig, seeds: int, forecast: Any) -> None:
    """Queues the run with so many seeds, and goes to Live."""
    check_queue(seeds)
    ids = []
    for offset in range(seeds):
        seed = run.train.seed + offset
        name = f"{run.name} seed {seed}" if run.name and seeds > 1 else run.name
        train = run.train.model_copy(update={"seed": seed})
        seeded = run.model_copy(update={"train": train, "name": name[:200]})
        ids.append(worker().submit(seeded, facts=_prediction(forecast, first=offset == 0)))
    remember(ids[0])
    remember_many(ids)
    together = {RUNS: ",".join(ids)} if len(ids) > 1 else {}
    st.switch_page("pages/live.py", query_params={JOB: ids[0], **together})


def _prediction(forecast: Any, first: bool) -> dict[str, Any]:
    """What the run will be measured against; later seeds find the teachers made and asked."""
    if forecast is None:
        return {}
    seconds = seconds_of(forecast, 1) if first else forecast.seconds - forecast.teacher_seconds
    return {"predicted": {"seconds": seconds, "basis": forecast.basis, "memory": forecast.memory_bytes}}
