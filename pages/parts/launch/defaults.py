"""The values that the launch form starts from: they suit the task, and a chosen recipe goes over them."""

from __future__ import annotations

import streamlit as st

from kdcore.config import StudentSpec, TrainConfig
from kdcore.models.sizes import PRESETS
from kdcore.tasks import TASKS
from pages.parts.launch import forms, recipe

SIZE = ("layers", "width", "heads", "intermediate")
POCKET_START = {"epochs": 6.0, "lr": 1e-3, "batch_size": 32, "max_length": 64}
GLUE_START = {"epochs": 3.0, "lr": 5e-5, "batch_size": 32, "max_length": 128}
POCKET_STUDENT = {"init": "random", "init_layers": "first"}
"""Pocket teachers have no pretrained base."""
POCKET_SHARES, GLUE_SHARES = 20, 0
"""Steps between samples of the gradient's shares: cheap where the student is tiny."""
GLUE_STUDENT = {"init": "teacher", "init_layers": "skip"}
"""Spread over the teacher's layers: the base's first layers score far below them (docs/RESULTS.md)."""
BY_HAND = "by hand"
"""The choice of a size that is not a preset."""


def fill_for_task() -> None:
    """Training settings that suit the task: small new models want larger steps than pretrained ones. Over them, the
    chosen recipe's on this task."""
    key = st.session_state["launch.task"]
    task = TASKS.get(key)
    pocket = bool(task and task.synthetic)
    forms.fill("launch.train", POCKET_START if pocket else GLUE_START)
    forms.fill("launch.student", POCKET_STUDENT if pocket else GLUE_STUDENT)
    forms.fill("launch.probes", {"gradient_share_every": POCKET_SHARES if pocket else GLUE_SHARES})
    st.session_state["launch.preset"] = "narrow-64" if pocket else "three-layers"
    fill_size()
    if chosen := recipe.current():
        settings = chosen.settings(key)
        forms.fill(f"launch.options.{chosen.method}", settings["options"])
        forms.fill("launch.train", settings["train"])
        forms.fill("launch.student", dict.fromkeys(SIZE) | settings["student"])
        st.session_state["launch.preset"] = BY_HAND


def start_over(method: str) -> None:
    """Puts back what a recipe may have set for this method, then fills the form anew."""
    forms.fill(f"launch.options.{method}", recipe.defaults(method))
    forms.fill("launch.train", {name: TrainConfig.model_fields[name].default for name in recipe.training_settings()})
    forms.fill("launch.student", {"init_layers": StudentSpec.model_fields["init_layers"].default})
    fill_for_task()


def fill_size() -> None:
    """Sizes by hand start from the preset; a width of its own fits no base, so it starts from new weights."""
    preset = PRESETS.get(st.session_state["launch.preset"])
    if preset is None:
        return
    forms.fill("launch.student", {name: getattr(preset, name) for name in SIZE})
    if preset.width is not None:
        forms.fill("launch.student", {"init": "random"})
