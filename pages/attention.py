"""Attention: where teacher and student look in a sentence of your own, on one scale, and how that came about."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.probes.attention import AttentionMaps
from kdcore.probes.snapshots import Kept
from kdcore.store import RunRow
from pages.parts.attention import cached_maps, heads, sentence_input
from pages.parts.attention.heads import Look
from pages.parts.common import cards, shell, snapshot_slider
from pages.parts.common.run_picker import one_run, the_store
from pages.parts.common.text import one_line
from pages.parts.layers import teacher_picker

SOURCES = ("A sentence", "Through the training")


def main() -> None:
    cards.title("Attention", "From each token (row) to each token (column). Teacher and student see the same sentence.")
    store = the_store()
    runs = store.runs(include_archived=True)
    runs = runs[runs["state"].isin(["done", "stopped"])]
    runs = runs.sort_values("teachers", key=lambda names: names == "", kind="stable")
    if runs.empty:
        cards.empty("**No finished run yet.** Attention needs a student that was kept.", "start", "Go to Start")
        return
    run = one_run(runs, "Run", "attention_run", prefer=("done",))
    if run is None:
        return
    row = store.get(run)
    cards.badges(row.task, row.facts.get("partial"))
    with cards.guarded("The moments of this run cannot be read"):
        kept = snapshot_slider.of_run(run)
        if kept and kept.rows and _source() == SOURCES[1]:
            heads.show(_through(row, kept))
            return
    with cards.guarded("The models of this run cannot be read"):
        look = _sentence(row)
        if look is None:
            cards.empty("**Type a sentence** above, or take one of the samples.")
            return
        heads.show(look)


def _source() -> str:
    picked = st.segmented_control(
        "Look at",
        SOURCES,
        default=SOURCES[0],
        required=True,
        key="look",
        bind="query-params",
        help="A sentence: any, read by the models now. Through the training: dev rows that were kept while it trained",
    )
    return str(picked)


def _sentence(row: RunRow) -> Look | None:
    """What the kept student and a teacher see in a sentence; None where none is typed."""
    when = cached_maps.stamp(row.id)
    sentence, pair = sentence_input.sentences(row)
    if not sentence.strip():
        return None
    with st.spinner("The models read the sentence"):
        name = _teacher(cached_maps.teacher_names(row.id, when))
        if name is None and row.config.teachers:
            st.info("The teachers of this run are not on this machine, so its student stands alone.")
        ours = cached_maps.student_maps(row.id, when, sentence, pair)
        theirs = cached_maps.teacher_maps(row.id, when, name, sentence, pair) if name else None
    return Look(ours, theirs, name or "", _layer_map(row, theirs))


def _through(row: RunRow, kept: Kept) -> Look:
    """What was kept of a dev row at a moment of the training."""
    name = _teacher(list(kept.teachers))
    at = st.selectbox(
        "Kept row",
        range(len(kept.rows)),
        key="kept",
        bind="query-params",
        format_func=lambda number: f"{kept.ids[number] % IDS_PER_SPLIT}: {one_line(' '.join(kept.rows[number]), 100)}",
    )
    at = at if at in range(len(kept.rows)) else 0
    moment = snapshot_slider.slider([str(step) for step in kept.steps])
    theirs = kept.teacher(name, at) if name else None
    note = f"{kept.split.capitalize()} row, kept in half precision at step {moment}. {snapshot_slider.cost(kept)}"
    ours = kept.student(int(moment), at)
    return Look(ours, theirs, name or "", _layer_map(row, theirs), note)


def _teacher(names: list[str]) -> str | None:
    """The teacher that is looked at, tied to `?teacher=` as on Layers."""
    return teacher_picker.one_teacher(names) if names else None


def _layer_map(row: RunRow, teacher: AttentionMaps | None) -> Mapping[int, int]:
    return teacher_picker.layer_map(row, len(teacher.maps)) if teacher else {}


shell.show(main)
