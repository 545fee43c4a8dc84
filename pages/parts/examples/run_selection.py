"""Which runs the page starts from, and the predictions that they kept."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.keys import EXAMPLES_TASK, JOB
from pages.parts.common.text import listed, plain, task_title
from pages.parts.examples import predictions
from pages.parts.examples.predictions import Predictions

MOST_SUGGESTED = 6


BASELINE = "fine-tune"


def suggestion(done: pd.DataFrame) -> list[str]:
    """The run that the link names and others of its task; without one those of the newest run's task."""
    asked = done[done["id"] == st.query_params.get(JOB)]
    task = (asked if len(asked) else done)["task"].iloc[0]
    of_task = done[(done["task"] == task) & ~done["id"].isin(asked["id"])]
    return [*asked["id"], *of_task["id"]][:MOST_SUGGESTED]


def with_linked_run(runs: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """The chosen runs; before them the finished one that the address asks for, where it is not among them."""
    chosen = runs[runs["id"].isin(ids)]
    asked = runs[(runs["id"] == st.query_params.get(JOB)) & (runs["state"] == "done")]
    return chosen if asked["id"].isin(ids).any() else pd.concat([asked, chosen])


def one_task(chosen: pd.DataFrame) -> pd.DataFrame:
    """The chosen runs of one task, distilled students first."""
    tasks = list(dict.fromkeys(chosen["task"]))
    task = tasks[0]
    if len(tasks) > 1:
        task = st.selectbox("Task", tasks, key=EXAMPLES_TASK, bind="query-params", format_func=task_title)
        task = task if task in tasks else tasks[0]
    result: pd.DataFrame = chosen[chosen["task"] == task].sort_values(
        "method", key=lambda keys: keys == BASELINE, kind="stable"
    )
    return result


def read_predictions(store: Store, chosen: pd.DataFrame) -> dict[str, dict[str, Predictions]]:
    """What each run kept; names the runs that kept nothing."""
    known, without = {}, []
    for run, name in zip(chosen["id"], chosen["name"], strict=True):
        with cards.guarded(f"The predictions of {plain(name, 60)} cannot be read"):
            by_split = {} if store.get(run).broken else predictions.read(run)
            if by_split:
                known[run] = by_split
            else:
                without.append(name)
    if without and known:
        st.caption(f"Left out, because they have no predictions: {listed(plain(name, 60) for name in without)}.")
    return known
