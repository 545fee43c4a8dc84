"""The part of the launch form where teachers are chosen."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from kdcore.config import TeacherSpec
from kdcore.data.pocket.ladder import LADDER
from kdcore.tasks import Task
from pages.parts.common import cached
from pages.parts.common.text import one_line, plain

KEY = "launch.teachers"
EXTRA = "launch.extra"
BOUNDS = "launch.bounds"
"""The task and the numbers of teachers that the choice was last fitted to."""
SOURCES = ("folder", "hub", "package", "run")
RUNS_OFFERED = 20


def choose(task: Task, runs: pd.DataFrame, fewest: int, most: int) -> tuple[TeacherSpec, ...]:
    """Draws the choice and returns the ensemble."""
    if most == 0:
        st.caption("This method learns from the gold labels alone: no teacher.")
        return ()
    listed = choices(task, runs)
    labels = {spec.name: label for spec, label in listed}
    specs = {spec.name: spec for spec, _ in listed}
    chosen = [name for name in st.session_state.get(KEY, []) if name in specs]
    if st.session_state.get(BOUNDS) != (task.key, fewest, most):  # what is typed within a method's bounds stays
        by_hand = len(st.session_state.get(EXTRA, []))
        at_least = fewest or int(task.suite != "pocket")
        chosen = fit(chosen, list(specs), at_least - by_hand, most - by_hand)
        st.session_state[BOUNDS] = (task.key, fewest, most)
    st.session_state[KEY] = chosen
    if fewest == 0:
        st.caption("This method does not listen to teachers. One named here is made and scored beside the student.")
    several = f"{fewest} teachers" if fewest == most else f"{fewest} to {most} teachers"
    wanted = "one teacher" if fewest == most == 1 else several
    picked = st.multiselect(
        f"Teachers ({wanted})",
        list(specs),
        key=KEY,
        persist_state="session",
        format_func=lambda name: one_line(labels.get(name, name), 70),
        help="A pretrained model without a classifier is first fine-tuned here on the task",
    )
    extra = [spec for spec in _extra() if spec.name not in picked]
    for spec in extra:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(spec.name)}**: {plain(spec.source)} {plain(spec.where, 80)}")
            st.button("Remove", key=f"launch.drop.{spec.name}", on_click=_drop, args=(spec.name,))
    _by_hand()
    return tuple(specs[name] for name in picked if name in specs) + tuple(extra)


def fit(chosen: list[str], names: list[str], fewest: int, most: int) -> list[str]:
    """As many of `names` as a method takes: those chosen before, then the first of the others.

    >>> fit(["small"], ["large", "medium", "small"], 2, 12), fit(["small", "large"], ["large", "small"], 1, 1)
    (['small', 'large'], ['small'])
    """
    others = [name for name in names if name not in chosen]
    return [*chosen, *others[: max(0, fewest - len(chosen))]][: max(0, most)]


def choices(task: Task, runs: pd.DataFrame) -> list[tuple[TeacherSpec, str]]:
    """Teachers that are here for this task, with a label: the pocket ladder, packages, students of earlier runs."""
    offers = []
    if task.suite == "pocket":
        for name, rung in reversed(LADDER.items()):
            label = f"pocket {name}: {rung.layers} layers of {rung.width}, trained here once"
            offers.append((TeacherSpec(name=name, source="pocket", where=name), label))
    else:
        for name in cached.packages():
            label = f"{name}: installed package, pretrained, fine-tuned here on the task"
            offers.append((TeacherSpec(name=name, source="package", where=name), label))
    of_task = (runs["task"] == task.key) | runs["task"].str.startswith(f"{task.key}:")
    students = runs[of_task & (runs["state"] == "done") & runs["score"].notna()]
    for _, row in students.sort_values("score", ascending=False).head(RUNS_OFFERED).iterrows():
        label = f"student of {row['name']}: {100 * row['score']:.1f} on dev"
        offers.append((TeacherSpec(name=f"run-{row['id'][-6:]}", source="run", where=row["id"]), label))
    return offers


def fill(specs: tuple[TeacherSpec, ...], task: Task | None, runs: pd.DataFrame) -> None:
    """Fills the choice with the teachers of a cloned run."""
    listed = {spec for spec, _ in choices(task, runs)} if task else set()
    st.session_state[KEY] = [spec.name for spec in specs if spec in listed]
    st.session_state[EXTRA] = [spec.model_dump(mode="json") for spec in specs if spec not in listed]


def _extra() -> list[TeacherSpec]:
    return [TeacherSpec.model_validate(spec) for spec in st.session_state.get(EXTRA, [])]


def _drop(name: str) -> None:
    st.session_state[EXTRA] = [spec for spec in st.session_state.get(EXTRA, []) if spec["name"] != name]


def _by_hand() -> None:
    with st.expander("Add a teacher by hand: a folder, a hub model in the local cache, fewer layers"):
        left, right = st.columns(2)
        name = left.text_input("Name", key="launch.hand.name", max_chars=40, help=_help("name"))
        source = left.selectbox("Source", SOURCES, key="launch.hand.source", help=_help("source"))
        where = right.text_input("Where", key="launch.hand.where", max_chars=500, help=_help("where"))
        layers = right.number_input(
            "Layers kept", 1, 64, value=None, step=1, key="launch.hand.layers", placeholder="all", help=_help("layers")
        )
        if st.button("Add", key="launch.hand.add", icon=":material/add:"):
            try:
                spec = TeacherSpec(name=name, source=source, where=where, layers=layers)
            except ValueError as error:
                st.error(plain(_first(error), 300))
                return
            st.session_state[EXTRA] = [*st.session_state.get(EXTRA, []), spec.model_dump(mode="json")]
            st.rerun()


def _help(name: str) -> str | None:
    return TeacherSpec.model_fields[name].description


def _first(error: ValueError) -> str:
    problems: list[Any] = getattr(error, "errors", list)()
    return f"{'.'.join(map(str, problems[0]['loc']))}: {problems[0]['msg']}" if problems else str(error)
