"""Attention: where teacher and student attend in a sentence of your own, on one scale, and how that developed."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.analysis.layer_distances import layer_map
from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.layer_map import LayerMap
from kdcore.paths import run_dir
from kdcore.probes import snapshots
from kdcore.probes.attention import AttentionMaps
from kdcore.probes.snapshots import SnapshotReader
from kdcore.store import RunRow
from pages.parts.attention import answers, cached_maps, deciding_words, heads, sentence_input
from pages.parts.attention.panels import AttentionPair
from pages.parts.common import cards, empty_store, run_header, shell, snapshot_slider
from pages.parts.common.keys import KEPT_ROW, LOOK
from pages.parts.common.run_picker import one_run, the_store
from pages.parts.common.teacher_picker import one_teacher, teacher_here
from pages.parts.common.text import one_line

SENTENCE, WORDS, TRAINING = "A sentence", "Which words decide", "Through the training"


def main() -> None:
    place = cards.title("Attention", "From each token (row) to each token (column), in the same sentence.")
    store = the_store()
    everything = store.runs(include_archived=True)
    runs = everything[everything["state"].isin(["done", "stopped"])]
    if runs.empty:
        empty_store.show("**No finished run yet.** Attention needs a student that was kept.")
        return
    run = one_run(runs, "Run", "attention_run", place=place)
    if run is None:
        return
    row = store.get(run)
    run_header.show(store, row, everything)
    controls = st.container(horizontal=True, vertical_alignment="bottom")
    source = SENTENCE
    with cards.guarded("The snapshots of this run cannot be read"):
        kept = snapshots.read(run_dir(run))
        source = _source(controls, bool(kept and kept.rows))
        if kept and source == TRAINING:
            heads.show(_kept_row(row, kept))
            return
    with cards.guarded("The models of this run cannot be read"):
        with controls:
            sentence, second = sentence_input.sentences(row)
        if not sentence.strip():
            cards.empty("**Type a sentence** above, or take one of the samples.")
        elif source == WORDS:
            deciding_words.show(row, sentence, second)
        else:
            heads.show(_sentence(row, sentence, second))


def _source(place: DeltaGenerator, kept: bool) -> str:
    """What is looked at. kept: whether the run has snapshots."""
    return str(
        place.segmented_control(
            "Source",
            (SENTENCE, WORDS, TRAINING) if kept else (SENTENCE, WORDS),
            default=SENTENCE,
            required=True,
            key=LOOK,
            bind="query-params",
            label_visibility="collapsed",
            help="A sentence: where the models attend in it. Which words decide: what each word adds to the answer. "
            "Through the training: attention in dev rows of the run's snapshots",
        )
    )


def _sentence(row: RunRow, sentence: str, second: str | None) -> AttentionPair:
    """The attention of the kept student and of a teacher in a sentence."""
    when = cached_maps.stamp(row.id)
    with st.spinner("The models read the sentence"):
        name = teacher_here(row, cached_maps.teacher_names(row.id, when))
        student = cached_maps.student_maps(row.id, when, sentence, second)
        teacher = cached_maps.teacher_maps(row.id, when, name, sentence, second) if name else None
        said = answers.read(row.id, when, name, sentence, second)
    answers.show(row, said)
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


def _layer_map(row: RunRow, teacher: AttentionMaps | None) -> LayerMap:
    return layer_map(row, len(teacher.maps)) if teacher else {}


shell.show(main)
