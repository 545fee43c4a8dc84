"""Launch: choose task, method, teachers and student; see what it costs; start."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from kdcore.config import ProbeConfig, RunConfig, TrainConfig
from kdcore.methods import METHODS, Method
from kdcore.methods.catalog import source_of
from kdcore.settings_file import with_absolute_paths
from pages.parts.common import cards, shell
from pages.parts.common.read_only import read_only
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import plain
from pages.parts.launch import (
    also,
    clone,
    damage,
    draft,
    forms,
    method_choice,
    preview,
    recipe,
    student,
    task_choice,
    teachers,
)

BASIC = ("epochs", "lr", "seed", "batch_size", "max_length")


def main() -> None:
    cards.title("New run", "Choose what learns from whom, see what it will cost, start.")
    if read_only():
        cards.empty("**Nothing can be launched here**: this dashboard shows runs only.", "runs", "Go to All runs")
        return
    runs = the_store().runs(include_archived=True)
    draft.fill()
    clone.fill(runs)
    form, before = st.columns([3, 2], gap="large")
    with form:
        settings = _form(runs)
    with before, st.container(border=True, key="launch_plan"):
        st.subheader("Before you start", anchor=False)
        run = _check(settings)
        if run is not None:
            preview.show(run)
    draft.keep()


def _form(runs: pd.DataFrame) -> dict[str, Any]:
    """Draws the form; the settings that it holds."""
    st.subheader("Task and method", anchor=False)
    task, own = task_choice.choose()
    method, about_recipe = method_choice.choose(task)
    others = also.choose(task, method)
    options = {}
    if method.Config.model_fields:
        with st.container(border=True):
            options = forms.fields(method.Config, f"launch.options.{method.key}")
    st.subheader("Teachers", anchor=False)
    ensemble = teachers.choose(task, runs, *_takes(method, options))
    st.subheader("Student", anchor=False)
    spec = student.choose()
    st.subheader("Training", anchor=False)
    train, probes = _training()
    data = damage.choose()
    name = st.text_input(
        "Name of the run", key="launch.name", max_chars=200, placeholder="empty: made from settings",
        persist_state="session",
    )  # fmt: skip
    settings = {
        "name": name,
        "task": task.key,
        "own": own,
        "also": others,
        "method": method.key,
        "options": options,
        "teachers": [teacher.model_dump(mode="json") for teacher in ensemble],
        "student": spec,
        "train": train,
        "data": data,
        "probes": probes,
        "base": st.session_state.get("launch.base"),
    }
    if chosen := recipe.current():
        with about_recipe:
            recipe.explain(chosen, task, settings)
    return settings


def _takes(method: type[Method], options: dict[str, Any]) -> tuple[int, int]:
    """How many teachers the method takes with these settings, or with any where these cannot be read."""
    try:
        return method.takes(method.Config.model_validate(options))
    except ValidationError:
        return method.teachers


def _training() -> tuple[dict[str, Any], dict[str, Any]]:
    """The training settings, and what is measured."""
    train = forms.fields(TrainConfig, "launch.train", BASIC)
    with st.expander("More training settings"):
        rest = [name for name in TrainConfig.model_fields if name not in BASIC]
        train |= forms.fields(TrainConfig, "launch.train", rest)
        st.caption("What is measured beside the score")
        probes = forms.fields(ProbeConfig, "launch.probes")
    return train, probes


def _check(settings: dict[str, Any]) -> RunConfig | None:
    """The run, or None after saying which field is wrong."""
    try:
        run = RunConfig.model_validate(settings)
        method = METHODS[run.method].Config.model_validate(run.options)
        whole = {"options": method.model_dump(mode="json"), "method_source": source_of(run.method)}
        return with_absolute_paths(run.model_copy(update=whole))
    except ValidationError as error:
        for problem in error.errors()[:5]:
            field = ".".join(map(str, problem["loc"])) or "settings"
            st.error(f"**{plain(field)}**: {plain(problem['msg'], 300)}", icon=":material/error:")
        return None


shell.show(main)
