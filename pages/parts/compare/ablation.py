"""Where the gain comes from: the waterfall of one group, the steps that are not in the comparison yet, and the group
without one part."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from kdcore.analysis import ablation
from kdcore.analysis.ablation import Rung
from kdcore.analysis.comparison import Comparison
from kdcore.config import RunConfig
from kdcore.figures import waterfall
from kdcore.store import Store
from pages.parts.common import ablation_menu, cards, queue_runs
from pages.parts.common.keys import RUNS
from pages.parts.common.text import metric_title, plain
from pages.parts.compare import scores, variants


def show(store: Store, comparison: Comparison, everything: pd.DataFrame, teacher: float | None) -> None:
    """The waterfall of one group of the comparison.

    Args:
        everything: rows of `Store.runs`, where missing steps are looked for. teacher: the best teacher's score.
    """
    st.subheader("Where the gain comes from", anchor=False)
    done = comparison.finished
    taught = done[done["method"] != ablation.ALONE]
    if taught.empty:
        st.caption("Choose a finished run that learned from a teacher to see what gave its score.")
        return
    labels = dict(zip(taught["group"], taught["label"], strict=True))
    best = ablation.best_taught(comparison)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        top = st.selectbox(
            "Student",
            list(labels),
            index=list(labels).index(best),
            format_func=lambda group: labels.get(group, group),
            key="gains_of",
            bind="query-params",
        )
        with cards.guarded("What can be left out cannot be listed"):
            _repeat(comparison, top, everything)
    rungs = ablation.climb(comparison, top)
    rows = ablation.table(rungs, done)
    if text := ablation.summary(rows):
        st.markdown(f"**{plain(labels[top])}**: {text}")
    dark = cards.dark()
    title = f"{metric_title(comparison.metric)}, dev split"
    cards.figure(
        lambda: waterfall.waterfall(rows, title, teacher=teacher, dark=dark),
        "gains",
        f"{ablation.CHANGES} Means over {ablation.seeds_text(rows)}; whiskers: {ablation.LEVEL:.0%} interval of the "
        "step's gain.",
        data=rows,
        follows=top,
        how=ablation.HOW,
        about=scores.about(comparison),
    )
    seeds = sorted(int(seed) for seed in done.loc[done["group"] == top, "seed"])
    _offer(store, rungs, seeds, comparison, everything)
    with cards.guarded("What its parts bring cannot be shown"):
        variants.show(comparison, top)


def _repeat(comparison: Comparison, top: str, everything: pd.DataFrame) -> None:
    """The menu of ablations of the group `top`, for all its seeds in the store; those not chosen yet join."""
    done = comparison.finished[comparison.finished["group"] == top]
    whole = ablation_menu.finished_seeds(everything, top) | {
        int(seed): str(run) for seed, run in zip(done["seed"], done["id"], strict=True)
    }
    chosen = st.session_state.get(RUNS, [])
    ablation_menu.show(RunConfig.model_validate(comparison.settings_of(top)), whole, "gains_repeat", chosen)


def _offer(
    store: Store, rungs: Sequence[Rung], seeds: list[int], comparison: Comparison, everything: pd.DataFrame
) -> None:
    """The steps that are not in the comparison: runs of the store to add, else runs to queue."""
    rest = everything[(everything["task"] == comparison.task) & (everything["state"] == "done")]
    rest = rest[rest["score"].notna() & ~rest["id"].isin(comparison.chosen["id"])]
    for index, rung in enumerate(rungs):
        if rung.group:
            continue
        with st.container(horizontal=True, vertical_alignment="center", key=f"gains_missing_{index}"):
            st.markdown(f":material/help: Not in this comparison: **{plain(rung.label.removeprefix('+ '))}**")
            if there := _in_store(store, rung.config, rest[rest["method"] == rung.config.method]):
                queue_runs.add(f"Add {len(there)} from the store", there, f"gains_add_{index}")
            else:
                runs = [queue_runs.with_seed(rung.config, seed) for seed in seeds]
                queue_runs.offer(f"Queue it ({ablation_menu.seeds_text(seeds)})", runs, f"gains_queue_{index}")


def _in_store(store: Store, wanted: RunConfig, rest: pd.DataFrame) -> list[str]:
    """Finished runs that are this step, of each seed one."""
    settings = store.settings(list(rest["id"]))
    fitting = [run for run in rest["id"] if run in settings and ablation.fits(wanted, settings[run])]
    return list(rest[rest["id"].isin(fitting)].drop_duplicates(["group", "seed"])["id"])
