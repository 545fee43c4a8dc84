"""Layers: how far each student layer is from each teacher layer, through the training, and what the method matched."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from kdcore.figures.layers import describe_map
from kdcore.store import RunRow, Store
from pages.parts.common import cards, shell, snapshot_slider
from pages.parts.common.run_picker import one_run, run_words, the_store, told_apart, unknown
from pages.parts.common.text import plain
from pages.parts.layers import matrices, teacher_picker
from pages.parts.layers.matrices import Shown
from pages.parts.layers.teacher_picker import Course


def main() -> None:
    cards.title("Layers", "Does a student layer hold what a teacher layer holds? Outlined: the matched pairs.")
    store = the_store()
    runs = store.runs(include_archived=True)
    runs = runs[runs["state"].isin(["done", "stopped"])]
    runs = runs.sort_values("teachers", key=lambda names: names == "", kind="stable")
    if runs.empty:
        cards.empty(
            "**No finished run yet.** The layers are compared while a run trains and when it ends.",
            "start",
            "Go to Start",
        )
        return
    run = one_run(runs, "Run", "layers_run", prefer=("done",))
    if run is None:
        return
    with cards.guarded("What this run measured cannot be read"):
        found = teacher_picker.of_run(store, run)
        if not found.moments:
            cards.empty(_why_none(found.row))
            return
        with st.container(horizontal=True):
            teacher = teacher_picker.one_teacher(found.teachers())
            other = _beside(store, runs, found)
        moment = snapshot_slider.slider(found.words(teacher))
        shown = [Shown(found, teacher, moment, "")]
        if other is not None:
            theirs = teacher if teacher in other.teachers() else other.teachers()[0]
            shown.append(Shown(other, theirs, other.like(found, moment, theirs), "_beside"))
        _about(shown)
        matrices.show(shown)


def _beside(store: Store, runs: pd.DataFrame, found: Course) -> Course | None:
    """A second run of the same task to set beside, tied to `?beside=`."""
    others = runs[(runs["task"] == found.row.task) & (runs["id"] != found.row.id) & (runs["teachers"] != "")]
    asked = st.query_params.get("beside")
    if asked is not None and asked not in set(runs["id"]):
        unknown([asked])
    if asked not in set(others["id"]):
        st.query_params.pop("beside", None)
        asked = None
    words = told_apart({row["id"]: run_words(row) for _, row in others.iterrows()})
    st.session_state["layers_beside"] = asked
    picked = st.selectbox(
        "Beside it",
        list(words),
        index=None,
        key="layers_beside",
        format_func=lambda one: words.get(one, one),
        placeholder="No other run",
        help="Another run of this task, on the same scale, as far in its own training",
        on_change=_put_beside,
        disabled=not words,
    )
    if picked is None:
        return None
    other = teacher_picker.of_run(store, picked)
    if not other.moments:
        st.info(f"Nothing was measured of the layers of {plain(other.row.name, 80)}, so it is not shown beside.")
        return None
    return other


def _put_beside() -> None:
    picked = st.session_state["layers_beside"]
    if picked is None:
        st.query_params.pop("beside", None)
    else:
        st.query_params["beside"] = picked


def _about(shown: Sequence[Shown]) -> None:
    first = shown[0]
    row = first.course.row
    with st.container(horizontal=True):
        cards.badges(row.task, row.facts.get("partial"))
    for one in shown:
        st.markdown(
            f"Student of **{plain(one.name, 80)}** at **{snapshot_slider.words_of(one.moment)}**, against teacher "
            f"**{plain(one.teacher)}**. {describe_map(one.course.layer_map(one.teacher))}"
        )
    if first.course.kept is None:
        st.caption(
            "This run kept no moments to scrub through: they are kept while a student trains with the probe of layer "
            "distances switched on."
        )


def _why_none(row: RunRow) -> str:
    if not row.broken and not row.config.teachers:
        return "This run had **no teacher**, so there is nothing to be far from. Choose a distilled run."
    if not row.broken and not row.config.probes.distances:
        return "This run was started **without the probe of layer distances**. Clone it with the probe switched on."
    return "The layer distances of this run were **not measured**: it ended before its first moment was kept."


shell.show(main)
