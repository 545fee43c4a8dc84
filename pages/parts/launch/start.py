"""The button of the launch page: queues the run, once for each seed that is asked for."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kdcore.config import RunConfig
from pages.parts.common import cards
from pages.parts.common.queue_runs import check_queue
from pages.parts.common.run_picker import remember, remember_many
from pages.parts.common.sidebar import worker

MOST_SEEDS = 10


def show(run: RunConfig, report: Any) -> None:
    """Draws it. report: of the pre-flight; None where the checks failed."""
    blocked = report is None or bool(report.blocks)
    with st.container(horizontal=True, vertical_alignment="bottom", key="launch_start"):
        seeds = st.number_input(
            "Seeds", 1, MOST_SEEDS, 1, key="launch.seeds", width=110,
            help="Queues the run so often, with seeds counting up from the one in the form",
        )  # fmt: skip
        pressed = st.button("Start", key="launch_go", type="primary", icon=":material/play_arrow:", disabled=blocked)
    if blocked:
        st.caption("Fix the errors above to enable Start.")
    if not pressed or blocked:
        return
    with cards.guarded("The run could not be queued"):
        _submit(run, min(max(int(seeds), 1), MOST_SEEDS), report.forecast)


def _submit(run: RunConfig, seeds: int, forecast: Any) -> None:
    """Queues the run with so many seeds, and goes to Live."""
    check_queue(seeds)
    ids = []
    for offset in range(seeds):
        seed = run.train.seed + offset
        name = f"{run.name} seed {seed}" if run.name and seeds > 1 else run.name
        train = run.train.model_copy(update={"seed": seed})
        seeded = run.model_copy(update={"train": train, "name": name[:200]})
        ids.append(worker().submit(seeded, facts=_predicted(forecast, first=offset == 0)))
    remember(ids[0])
    remember_many(ids)
    st.switch_page("pages/live.py", query_params={"job": ids[0]})


def _predicted(forecast: Any, first: bool) -> dict[str, Any]:
    """What the run will be measured against; later seeds find the teachers made and asked."""
    if forecast is None:
        return {}
    seconds = forecast.seconds - (0 if first else forecast.teacher_seconds)
    return {"predicted": {"seconds": seconds, "basis": forecast.basis}}
