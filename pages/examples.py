"""Examples: what the student learned from its teacher and what it lost, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.probes.examples import mean_answer
from kdcore.store import Store
from pages.parts.common import cards, shell
from pages.parts.common.run_picker import many_runs, one_run, short_words, the_store, told_apart, unknown
from pages.parts.common.text import listed, plain, task_title
from pages.parts.examples import classification, predictions, regression, try_sentence
from pages.parts.examples.predictions import Answered, Model, Pair

MOST_SUGGESTED = 6
BASELINE = "fine-tune"

Known = Mapping[str, Mapping[str, Answered]]
"""Run -> dev split -> answers."""


def main() -> None:
    cards.title("Examples", "Row by row of the dev split: what the student learned from its teacher, and what it lost.")
    store = the_store()
    runs = store.runs(include_archived=True)
    done = runs[runs["state"] == "done"]
    if done.empty:
        cards.empty("**No finished run yet.** Answers are kept when a run ends.", "start", "Go to Start")
        return
    picked = many_runs(
        runs, "Runs", "examples_runs", _suggested(done), help="Their students can be compared row by row"
    )
    if not picked:
        cards.empty("**Choose a run** above, or tick rows on the page Runs.", "runs", "Go to Runs")
        return
    chosen = _one_task(runs[runs["id"].isin(picked)])
    with st.spinner("Reading what the models answered"):
        known = _answers(store, chosen)
    if not known:
        cards.empty(
            "None of the chosen runs has kept its answers; they come at the end of a run.", "runs", "Go to Runs"
        )
        return
    chosen = chosen[chosen["id"].isin(known)]
    names = told_apart({row["id"]: short_words(row, task=False) for _, row in chosen.iterrows()})
    left, right = st.columns(2)
    with left:
        run = _student(chosen)
    with cards.guarded("The answers of this run cannot be shown"):
        _show(store, run, names, known, right)


def _suggested(done: pd.DataFrame) -> list[str]:
    """The run that the link names and others of its task; without one those of the newest run's task."""
    asked = done[done["id"] == st.query_params.get("job")]
    task = (asked if len(asked) else done)["task"].iloc[0]
    of_task = done[(done["task"] == task) & ~done["id"].isin(asked["id"])]
    return [*asked["id"], *of_task["id"]][:MOST_SUGGESTED]


def _one_task(chosen: pd.DataFrame) -> pd.DataFrame:
    """The chosen runs of one task, distilled students first."""
    tasks = list(dict.fromkeys(chosen["task"]))
    task = tasks[0]
    if len(tasks) > 1:
        task = st.selectbox("Task", tasks, key="etask", bind="query-params", format_func=task_title)
        task = task if task in tasks else tasks[0]
    return chosen[chosen["task"] == task].sort_values("method", key=lambda keys: keys == BASELINE, kind="stable")


def _answers(store: Store, chosen: pd.DataFrame) -> dict[str, dict[str, Answered]]:
    """What each run kept; says which kept nothing."""
    known, without = {}, []
    for run, name in zip(chosen["id"], chosen["name"], strict=True):
        with cards.guarded(f"The answers of {plain(name, 60)} cannot be read"):
            found = {} if store.get(run).broken else predictions.of_run(run)
            if found:
                known[run] = found
            else:
                without.append(name)
    if without and known:
        st.caption(f"Without answers, so left out: {listed(plain(name, 60) for name in without)}.")
    return known


def _student(runs: pd.DataFrame) -> str:
    """The run whose student is looked at, tied to `?job=`."""
    asked = st.query_params.get("job")
    if asked not in set(runs["id"]):
        if asked is not None and asked != st.session_state.get("job"):  # a link's, not one that was chosen before
            unknown([asked])
        st.query_params.pop("job", None)
    return cast(str, one_run(runs, "Student of", "examples_run"))


def _show(store: Store, run: str, names: Mapping[str, str], known: Known, beside: DeltaGenerator) -> None:
    """Everything below the choice of runs. beside: where the second choice stands."""
    row = store.get(run)
    split = _split(list(known[run]))
    answers = known[run][split]
    dev = predictions.dev(row.config, split, answers)
    with st.container(horizontal=True):
        cards.badges(row.task, row.facts.get("partial"))
    if dev.why:
        st.warning(f"The sentences cannot be shown: {plain(dev.why, 300)}.", icon=":material/description:")
    teachers = tuple(Model(f"teacher {name}", "teacher", logits) for name, logits in answers.teachers.items())
    others = [*teachers, *_others(store, run, split, names, known)]
    if len(teachers) > 1:
        mean = mean_answer(model.logits for model in teachers)
        others.insert(len(teachers), Model("mean of the teachers", "teacher", mean))
    if others:
        at = _compared_with(beside, [model.name for model in others])
        student = Model(f"student {names[run]}", row.method, answers.student)
        view = classification.show if dev.task.labels else regression.show
        view(Pair(dev, answers, student, others[at], teachers))
    else:
        cards.empty("This run had **no teacher**. Choose a second run above to set the two students side by side.")
    st.subheader("Your own sentence", anchor=False)
    with cards.guarded("The models cannot be asked"):
        try_sentence.show(
            dev.task, {run: names[run]} | {k: names[k] for k in known if k != run}, row.config.train.max_length
        )


def _others(store: Store, run: str, split: str, names: Mapping[str, str], known: Known) -> list[Model]:
    """The students of the other chosen runs, where they answered the same rows."""
    answers = known[run][split]
    found = {other: known[other][split] for other in known if other != run and split in known[other]}
    return [
        Model(f"student {names[other]}", store.get(other).method, theirs.student)
        for other, theirs in found.items()
        if answers.same_rows(theirs)
    ]


def _compared_with(place: DeltaGenerator, names: list[str]) -> int:
    name = place.selectbox("Compared with", names, key="examples_other", persist_state="session")
    return names.index(name) if name in names else 0


def _split(splits: list[str]) -> str:
    if len(splits) < 2:
        return splits[0]
    split = st.segmented_control("Dev split", splits, key="esplit", bind="query-params", required=True)
    return split if split in splits else splits[0]


shell.show(main)
