"""Launch: choose task, method, teachers and student; see what it costs; start."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from kdcore.config import OwnData, ProbeConfig, RunConfig, StudentSpec, TrainConfig
from kdcore.errors import UserError
from kdcore.methods import METHODS, Method
from kdcore.models.sizes import PRESETS
from kdcore.settings_file import with_absolute_paths
from kdcore.tasks import TASKS, Task
from pages.parts.common import cached, cards, shell
from pages.parts.common.read_only import read_only
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import plain, sentence
from pages.parts.launch import ensemble, forms, preview, recipe

BASIC = ("epochs", "lr", "seed", "batch_size", "max_length")
SIZE = ("layers", "width", "heads", "intermediate")
POCKET_START = {"epochs": 6.0, "lr": 1e-3, "batch_size": 32, "max_length": 64}
GLUE_START = {"epochs": 3.0, "lr": 5e-5, "batch_size": 32, "max_length": 128}


def main() -> None:
    cards.title("Launch", "Choose what learns from whom, see what it will cost, start.")
    if read_only():
        cards.empty("**Nothing can be launched here**: this dashboard shows runs only.", "runs", "Go to Runs")
        return
    runs = the_store().runs(include_archived=True)
    _clone(runs)
    form, before = st.columns([3, 2], gap="large")
    with form:
        settings = _form(runs)
    with before, st.container(border=True, key="launch_plan"):
        st.subheader("Before you start", anchor=False)
        run = _checked(settings)
        if run is not None:
            preview.show(run)


def _form(runs: pd.DataFrame) -> dict[str, Any]:
    st.subheader("Task and method", anchor=False)
    task, own = _task()
    method, about_recipe = _method(task)
    options = {}
    if method.Config.model_fields:
        with st.container(border=True):
            options = forms.fields(method.Config, f"launch.options.{method.key}")
    st.subheader("Teachers", anchor=False)
    teachers = ensemble.choose(task, runs, *method.teachers)
    st.subheader("Student", anchor=False)
    student = _student(task)
    st.subheader("Training", anchor=False)
    train = forms.fields(TrainConfig, "launch.train", BASIC)
    with st.expander("More training settings"):
        rest = [name for name in TrainConfig.model_fields if name not in BASIC]
        train |= forms.fields(TrainConfig, "launch.train", rest)
        st.caption("What is measured beside the score")
        probes = forms.fields(ProbeConfig, "launch.probes")
    name = st.text_input(
        "Name of the run",
        key="launch.name",
        max_chars=200,
        placeholder="empty: made from settings",
        persist_state="session",
    )
    settings = {
        "name": name,
        "task": task.key,
        "own": own,
        "method": method.key,
        "options": options,
        "teachers": [spec.model_dump(mode="json") for spec in teachers],
        "student": student,
        "train": train,
        "probes": probes,
        "base": st.session_state.get("launch.base"),
    }
    if followed := recipe.chosen():
        with about_recipe:
            recipe.explain(followed, task, settings)
    return settings


def _task() -> tuple[Task, dict[str, Any] | None]:
    here = cached.tasks_here()
    keys = [*sorted(TASKS, key=lambda key: not here[key].ok), "own"]
    if st.session_state.get("launch.task") not in keys:
        st.session_state["launch.task"] = keys[0]
    if "launch.train.lr" not in st.session_state:
        _suit()
    key = st.selectbox(
        "Task",
        keys,
        key="launch.task",
        on_change=_suit,
        persist_state="session",
        format_func=lambda key: _task_words(key, here),
    )
    if key == "own":
        return _own()
    task = TASKS[key]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{sentence(task.about)} {plain(sentence(here[key].source), 300)}")
        cards.badges(key)
    if not here[key].ok:
        st.warning(f"These rows are not on this machine. {plain(here[key].remedy, 400)}", icon=":material/cloud_off:")
    return task, None


def _task_words(key: str, here: dict[str, Any]) -> str:
    if key == "own":
        return "Own data (CSV, TSV, TXT, JSON, JSONL, Parquet)"
    task = TASKS[key]
    mark = " · synthetic" if task.synthetic else ("" if here[key].ok else " · not on this machine")
    return f"{task.title} · {task.kind}{mark}"


def _own() -> tuple[Task, dict[str, Any]]:
    with st.container(border=True):
        own = forms.fields(OwnData, "launch.own", columns=2)
    kind = own["kind"]
    columns = ("text", "pair") if own["text_pair"] else ("text",)
    labels = () if kind == "regression" else ("0", "1")
    return Task("own", "Own data", "own", columns, kind, labels, ("accuracy",)), own


def _suit() -> None:
    """Training settings that suit the task: small new models want larger steps than pretrained ones. Over them, the
    chosen recipe's on this task."""
    task = TASKS.get(st.session_state["launch.task"])
    pocket = bool(task and task.synthetic)
    forms.fill("launch.train", POCKET_START if pocket else GLUE_START)
    forms.fill("launch.student", {"init": "random" if pocket else "base"})
    st.session_state["launch.preset"] = "narrow-32" if pocket else "three-layers"
    _size()
    if followed := recipe.chosen():
        said = followed.settings(st.session_state["launch.task"])
        forms.fill(f"launch.options.{followed.method}", said["options"])
        forms.fill("launch.train", said["train"])
        forms.fill("launch.student", dict.fromkeys(SIZE) | said["student"])
        st.session_state["launch.preset"] = "by hand"


def _start_over(method: str) -> None:
    """Puts back what a recipe may have set for this method, then fills the form anew."""
    forms.fill(f"launch.options.{method}", recipe.defaults(method))
    forms.fill("launch.train", {name: TrainConfig.model_fields[name].default for name in recipe.touched()})
    forms.fill("launch.student", {"init_layers": StudentSpec.model_fields["init_layers"].default})
    _suit()


def _other_recipe() -> None:
    _start_over(st.session_state["launch.method"])


def _other_method() -> None:
    """A recipe is its method's own: it ends with the choice of another."""
    if followed := recipe.chosen():
        st.session_state[recipe.KEY] = recipe.DEFAULTS
        _start_over(followed.method)


def _method(task: Task) -> tuple[type[Method], Any]:
    """The method, and the place for what its recipe says."""
    keys = list(METHODS)
    if st.session_state.get("launch.method") not in keys:
        st.session_state["launch.method"] = "kd" if "kd" in keys else keys[0]
    left, right = st.columns(2, gap="small")
    with left:
        key = st.selectbox(
            "Method", keys, key="launch.method", on_change=_other_method, persist_state="session",
            format_func=_method_words,
        )  # fmt: skip
    method = METHODS[key if key in keys else keys[0]]
    with right:
        recipe.choose(method.key, _other_recipe)
    words = (method.__doc__ or "").strip()
    st.caption(words.splitlines()[0] if words else "")
    about_recipe = st.container()
    if task.kind not in method.kinds:
        st.warning(f"{method.title} has no meaning for {task.kind}. Choose another task or method.")
    with st.expander("Loss, shapes, and how this differs from the paper"):
        st.code(words, language=None)
        paper = method.paper
        st.caption(f"{paper.authors}: {paper.title}. {paper.venue} {paper.year}, arXiv {paper.arxiv}")
    return method, about_recipe


def _method_words(key: str) -> str:
    method = METHODS[key]
    return f"{method.title} · {method.paper.authors.split(',')[0].split()[-1]} {method.paper.year}"


def _student(task: Task) -> dict[str, Any]:
    del task
    names = [*PRESETS, "by hand"]
    if st.session_state.get("launch.preset") not in names:
        st.session_state["launch.preset"] = names[0]
    preset = st.selectbox(
        "Size",
        names,
        key="launch.preset",
        on_change=_size,
        persist_state="session",
        format_func=lambda name: name.capitalize() if name not in PRESETS else _preset_words(name),
    )
    chosen = PRESETS.get(preset)
    if chosen is None:
        spec = forms.fields(StudentSpec, "launch.student", SIZE, columns=4)
    else:
        spec = {name: getattr(chosen, name) for name in SIZE}
    spec |= forms.fields(StudentSpec, "launch.student", ("init", "init_layers"), columns=2)
    if spec["init"] == "checkpoint":
        spec |= forms.fields(StudentSpec, "launch.student", ("checkpoint",))
    return spec


def _preset_words(name: str) -> str:
    preset = PRESETS[name]
    width = f" × {preset.width}" if preset.width else ""
    return f"{preset.layers} layer{'s' if preset.layers > 1 else ''}{width}: {preset.words}"


def _size() -> None:
    """Sizes by hand start from the preset; a width of its own fits no base, so it starts from new weights."""
    preset = PRESETS.get(st.session_state["launch.preset"])
    if preset is None:
        return
    forms.fill(
        "launch.student",
        {"layers": preset.layers, "width": preset.width, "heads": preset.heads, "intermediate": preset.intermediate},
    )
    if preset.width is not None:
        forms.fill("launch.student", {"init": "random"})


def _clone(runs: pd.DataFrame) -> None:
    """Fills the form with the settings of the run that the address names, once."""
    asked = st.query_params.get("clone")
    if asked is None:
        return
    del st.query_params["clone"]
    try:
        if asked not in set(runs["id"]):
            raise UserError("clone", "the link names a run that is not in this store", "choose one on the page Runs")
        run = the_store().get(asked).config
    except UserError as error:
        cards.problem(error, "The form could not be filled from a run")
        return
    whole = run.model_dump(mode="json")
    state = st.session_state
    state["launch.task"], state["launch.method"] = run.task, run.method
    state["launch.name"], state["launch.preset"] = run.name[:190], "by hand"
    state[recipe.KEY] = recipe.DEFAULTS
    state["launch.base"] = whole["base"]
    forms.fill(f"launch.options.{run.method}", run.options)
    forms.fill("launch.student", run.student.model_dump())
    forms.fill("launch.train", run.train.model_dump())
    forms.fill("launch.probes", run.probes.model_dump())
    if run.own:
        forms.fill("launch.own", run.own.model_dump())
    ensemble.put(run.teachers, TASKS.get(run.task), runs)
    st.info(f"Filled with the settings of {plain(run.name or asked, 80)}.", icon=":material/content_copy:")


def _checked(settings: dict[str, Any]) -> RunConfig | None:
    """The run, or None after saying which field is wrong."""
    try:
        run = RunConfig.model_validate(settings)
        method = METHODS[run.method].Config.model_validate(run.options)
        return with_absolute_paths(run.model_copy(update={"options": method.model_dump(mode="json")}))
    except ValidationError as error:
        for one in error.errors()[:5]:
            field = ".".join(map(str, one["loc"])) or "settings"
            st.error(f"**{plain(field)}**: {plain(one['msg'], 300)}", icon=":material/error:")
        return None


shell.show(main)
