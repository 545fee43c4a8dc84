"""The part of the launch form where the student's size and initial weights are chosen."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kdcore.config import StudentSpec
from kdcore.models.sizes import PRESETS
from pages.parts.launch import forms
from pages.parts.launch.defaults import BY_HAND, SIZE, fill_size


def choose() -> dict[str, Any]:
    """Draws the choice; the student's settings."""
    names = [*PRESETS, BY_HAND]
    if st.session_state.get("launch.preset") not in names:
        st.session_state["launch.preset"] = names[0]
    name = st.selectbox(
        "Size", names, key="launch.preset", on_change=fill_size, persist_state="session", format_func=_label
    )
    preset = PRESETS.get(name)
    if preset is None:
        spec = forms.fields(StudentSpec, "launch.student", SIZE, columns=4)
    else:
        spec = {field: getattr(preset, field) for field in SIZE}
    spec |= forms.fields(StudentSpec, "launch.student", ("init", "init_layers", "form", "vocabulary"), columns=4)
    if spec["init"] == "checkpoint":
        spec |= forms.fields(StudentSpec, "launch.student", ("checkpoint",))
    return spec


def _label(name: str) -> str:
    preset = PRESETS.get(name)
    if preset is None:
        return name.capitalize()
    width = f" × {preset.width}" if preset.width else ""
    return f"{preset.layers} layer{'s' if preset.layers > 1 else ''}{width}: {preset.words}"
