"""Examples: what the student learned from its teacher and what it lost, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.probes.examples import mean_answer
from kdcore.remote import fetching
from kdcore.store import Store
from pages.parts.common import cards, empty_store, run_header, shell
from pages.parts.common.keys import COMPARED_WITH, EXAMPLES_PART, JOB, SPLIT
from pages.parts.common.run_labels import chip_label, unique_labels
from pages.parts.common.run_picker import many_runs, one_run, the_store, unknown
from pages.parts.common.text import plain
from pages.parts.examples import classification, ensemble, predictions, regression, run_selection, try_sentence
from pages.parts.examples.predictions import Model, Pair, Predictions

PARTS = {"pair": "Two models", "ensemble": "Ensemble"}
"""Part of the page -> its name, which `?epart=` holds."""
Known = Mapping[str, Mapping[str, Predictions]]
"""Run -> dev split -> predictions."""


def main() -> None:
    place = cards.title("Examples", "Row by row of the dev split: what the student learned and what it lost.")
    store = the_store()
    runs = store.runs(include_archived=True)
    done = runs[runs["state"] == "done"]
    if done.empty:
        empty_store.show("**No finished run yet.** Predictions are kept when a run ends.")
        return
    head, (part, other, choice) = st.container(), st.columns([5, 6, 10])
    with choice:
        ids = many_runs(
            runs, "Runs", "examples_runs", run_selection.suggestion(done),
            help="Their students can be compared row by row",
        )  # fmt: skip
    if not ids:
        cards.empty("**Choose a run** above, or tick rows on the page All runs.", "runs", "Go to All runs")
        return
    chosen = run_selection.one_task(run_selection.with_linked_run(runs, ids))
    with st.spinner("Reading the predictions"):
        known = run_selection.read_predictions(store, chosen)
    if not known:
        words = "None of these runs has predictions here; they are kept when a run ends"
        if how := next(filter(None, map(fetching, chosen["id"])), ""):
            words += f", and {how}"
        cards.empty(f"{words}.", "runs", "Go to All runs")
        return
    chosen = chosen[chosen["id"].isin(known)]
    names = unique_labels({row["id"]: chip_label(row, task=False) for _, row in chosen.iterrows()})
    run = _student(chosen, place)
    with head:
        run_header.show(store, store.get(run), runs)
    with cards.guarded("The predictions of this run cannot be shown"):
        _show(store, run, names, known, (part, other))


def _student(runs: pd.DataFrame, place: DeltaGenerator) -> str:
    """The run whose student is shown, tied to `?job=`."""
    asked = st.query_params.get(JOB)
    if asked not in set(runs["id"]):
        if asked is not None and asked != st.session_state.get(JOB):  # a link's, not one that was chosen before
            unknown([asked])
        st.query_params.pop(JOB, None)
    return cast(str, one_run(runs, "Student of", "examples_run", place=place))


def _show(
    store: Store, run: str, names: Mapping[str, str], known: Known, places: tuple[DeltaGenerator, DeltaGenerator]
) -> None:
    """Everything below the choice of runs. places: for the choice of the part, and for what it is about."""
    row = store.get(run)
    split = _split(list(known[run]))
    own = known[run][split]
    dev = predictions.dev_rows(row.config, row.facts, split, own)
    if dev.why:
        st.warning(f"The sentences cannot be shown: {plain(dev.why, 300)}.", icon=":material/description:")
    teachers = tuple(Model(f"teacher {name}", "teacher", logits) for name, logits in own.teachers.items())
    if _part(places[0]) == "ensemble":
        ensemble.show(store, row, dev, own, places[1])
        return
    others = [*teachers, *_other_students(store, run, split, names, known)]
    if len(teachers) > 1:
        mean = mean_answer(model.logits for model in teachers)
        others.insert(len(teachers), Model("mean of the teachers", "teacher", mean))
    if others:
        labels = [model.name for model in others]
        label = places[1].selectbox("Compared with", labels, key=COMPARED_WITH, bind="query-params")
        other = others[labels.index(label) if label in labels else 0]
        student = Model(f"student {names[run]}", row.method, own.student)
        view = classification.show if dev.task.labels else regression.show
        view(Pair(dev, own, student, other, teachers))
    else:
        cards.empty("This run had **no teacher**. Choose a second run above to compare the two students.")
    st.subheader("Your own sentence", anchor=False)
    with cards.guarded("The models could not be run"):
        students = {run: names[run]} | {other: names[other] for other in known if other != run}
        try_sentence.show(dev.task, students, row.config.train.max_length)


def _part(place: DeltaGenerator) -> str:
    """Which part of the page is open."""
    part = place.segmented_control(
        "Part of this page", list(PARTS), key=EXAMPLES_PART, bind="query-params", default="pair", required=True,
        format_func=lambda key: PARTS.get(key, key),
        help="Two models beside each other, or all teachers of the run and what they teach together",
    )  # fmt: skip
    return part if part in PARTS else "pair"


def _other_students(store: Store, run: str, split: str, names: Mapping[str, str], known: Known) -> list[Model]:
    """The students of the other chosen runs that predicted the same rows."""
    others = {other: known[other][split] for other in known if other != run and split in known[other]}
    return [
        Model(f"student {names[other]}", store.get(other).method, its.student)
        for other, its in others.items()
        if known[run][split].same_rows(its)
    ]


def _split(splits: list[str]) -> str:
    if len(splits) < 2:
        return splits[0]
    split = st.segmented_control("Dev split", splits, key=SPLIT, bind="query-params", required=True)
    return split if split in splits else splits[0]


shell.show(main)
