"""A run again without one part of it: a menu with a button a part, for all seeds that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from kdcore.config import RunConfig
from kdcore.runs.ablations import ablations
from pages.parts.common import cards, queue_runs
from pages.parts.common.read_only import read_only
from pages.parts.common.text import listed, plain


def show(run: RunConfig, whole: Mapping[int, str], key: str, chosen: Sequence[str] = ()) -> None:
    """The menu; what can be left out is looked up when it is opened.

    Args:
        whole: seed -> a finished run of the whole method. One run is queued for each, and compared with them.
        chosen: runs that stay in the comparison with them.
    """
    if read_only():
        return
    queue_runs.close(key)
    menu = st.popover("Repeat without …", icon=":material/content_cut:", key=key, on_change="rerun")
    if not menu.open:
        return
    with menu, cards.guarded("What can be left out cannot be listed"):
        with st.spinner("Reading the method"):
            found = ablations(run)  # brings torch
        if not found:
            st.caption("With these settings there is no part that it can do without.")
            return
        st.caption(f"Queues the same run with only this changed; same teachers, {seeds_text(list(whole))}.")
        beside = [*chosen, *whole.values()]
        for index, ablation in enumerate(found):
            runs = [queue_runs.with_seed(ablation.run, seed) for seed in whole]
            label = f"{plain(ablation.title, 80)} ({plain(ablation.detail, 120)})"
            queue_runs.offer(label, runs, f"{key}_{index}", tags=ablation.tags, beside=beside, menu=key)


def seeds_text(seeds: Sequence[int]) -> str:
    """`seeds 0, 1, 2`, or `seed 0`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {listed(map(str, seeds), 6)}"


def finished_seeds(runs: pd.DataFrame, group: str) -> dict[int, str]:
    """Seed -> the newest finished run of the group, by seed. runs: rows of `Store.runs`, newest first."""
    done = runs[(runs["group"] == group) & (runs["state"] == "done") & runs["score"].notna()]
    seeds = {int(seed): str(run) for seed, run in zip(done["seed"][::-1], done["id"][::-1], strict=True)}
    return dict(sorted(seeds.items()))
