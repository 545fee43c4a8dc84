"""The answer of the page, with what one does next: look at the run, take the student away, pass the answer on."""

from __future__ import annotations

from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from kdcore.analysis.budget import Choice
from kdcore.analysis.cost_axes import Axis
from kdcore.store import Store
from pages.parts.common import student_download
from pages.parts.common.keys import JOB
from pages.parts.speed import remeasure
from pages.parts.speed.budget_answer import answer


def show(store: Store, choice: Choice, share: float, axis: Axis, runs: pd.DataFrame, costs: pd.DataFrame) -> None:
    """Args: share: of the best teacher's score. runs: the chosen ones, with group. costs: their `cost_table`."""
    with st.container(border=True, key="speed_answer"):
        st.markdown(answer(choice, share, axis))
        with st.container(horizontal=True, vertical_alignment="center"):
            if choice.busy:
                remeasure.time_again(store, runs, costs, "speed_again_here")
            elif choice.student is not None:
                _next_steps(store, runs[runs["group"] == choice.student["key"]])
            with st.popover("Link", icon=":material/link:", key="speed_link"):
                st.caption("Opens this page with these runs and bounds.")
                st.code(address(), language=None, wrap_lines=True)


def _next_steps(store: Store, members: pd.DataFrame) -> None:
    """The run of the group that `select` puts first, and the weights of the first one whose student is here."""
    if members.empty:
        return
    order = members.sort_values("select_score", ascending=False, na_position="last")
    run = order.iloc[0]
    seed = f" (seed {run['seed']:.0f}, best by select)" if len(members) > 1 else ""
    st.page_link(
        "pages/live.py", label=f"Open the run{seed}", icon=":material/monitoring:", query_params={JOB: run["id"]}
    )
    here = next((row for _, row in order.iterrows() if student_download.kept(store, row["id"])), None)
    if here is not None:
        other = "" if here["id"] == run["id"] else f" of seed {here['seed']:.0f}"
        student_download.student(store, here["id"], "speed_download", f"Download the student{other}")


def address() -> str:
    """The page's address with all that it shows."""
    page = str(st.context.url or "").partition("?")[0]
    return f"{page}?{urlencode(st.query_params.to_dict(), safe=',')}"
