"""Attention: where teacher and student attend in a sentence of your own, on one scale, and how that developed."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from kdcore.analysis.layer_distances import layer_map
from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.paths import run_dir
from kdcore.probes import snapshots
from kdcore.probes.attention import AttentionMaps
from kdcore.probes.snapshots import SnapshotReader
from kdcore.store import RunRow
from pages.parts.attention import cached_maps, heads, sentence_input
from pages.parts.attention.panels import AttentionPair
from pages.parts.common import cards, shell, snapshot_slider
from pages.parts.common.keys import KEPT_ROW, LOOK
from pages.parts.common.run_picker import one_run, the_store
from pages.parts.common.teacher_picker import one_teacher
from pages.parts.common.text import one_line

SENTENCE, TRAINING = "A sentence", "Through the training"


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
    with cards.guarded("The snapshots of this run cannot be read"):
        kept = snapshots.read(run_dir(run))
        if kept and kept.rows and _source() == TRAINING:
            heads.show(_kept_row(row, kept))
            return
    with cards.guarded("The models of this run cannot be read"):
        pair = _sentence(row)
        if pair is None:
            cards.empty("**Type a sentence** above, or take one of the samples.")
            return
        heads.show(pair)


def _source() -> str:
    return str(
        st.segmented_control(
            "Source",
            (SENTENCE, TRAINING),
            default=SENTENCE,
            required=True,
            key=LOOK,
            bind="query-params",
            help="A sentence: any, read by the models now. Through the training: dev rows of the run's snapshots",
        )
    )


def _sentence(row: RunRow) -> AttentionPair | None:
    """The attention of the kept student and of a teacher in a sentence; None where none is typed."""
    when = cached_maps.stamp(row.id)
    sentence, second = sentence_input.sentences(row)
    if not sentence.strip():
        return None
    with st.spinner("The models read the sentence"):
        names = cached_maps.teacher_names(row.id, when)
        name = one_teacher(names) if names else None
        if name is None and row.config.teachers:
            st.info("The teachers of this run are not on this machine, so only its student is shown.")
        student = cached_maps.student_maps(row.id, when, sentence, second)
        teacher = cached_maps.teacher_maps(row.id, when, name, sentence, second) if name else None
    return AttentionPair(student, teacher, name or "", _layer_map(row, teacher))


def _kept_row(row: RunRow, kept: SnapshotReader) -> AttentionPair:
    """The attention in a dev row that was recorded at a snapshot of the training."""
    name = one_teacher(list(kept.teachers)) if kept.teachers else None
    number = st.selectbox(
        "Dev row",
        range(len(kept.rows)),
        key=KEPT_ROW,
        bind="query-params",
        format_func=lambda number: f"{kept.ids[number] % IDS_PER_SPLIT}: {one_line(' '.join(kept.rows[number]), 100)}",
    )
    number = number if number in range(len(kept.rows)) else 0
    moment = snapshot_slider.slider([str(step) for step in kept.steps])
    teacher = kept.teacher(name, number) if name else None
    note = f"{kept.split.capitalize()} row, kept in half precision at step {moment}. {snapshot_slider.cost_text(kept)}"
    return AttentionPair(kept.student(int(moment), number), teacher, name or "", _layer_map(row, teacher), note)


def _layer_map(row: RunRow, teacher: AttentionMaps | None) -> Mapping[int, int]:
    return layer_map(row, len(teacher.maps)) if teacher else {}


shell.show(main)
