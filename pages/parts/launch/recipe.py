"""The part of the launch form that offers a paper's own recipe: the list box, what it sets, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from kdcore.methods import METHODS
from kdcore.runs.recipes import Part, Preset, presets, presets_of, settings_text
from kdcore.tasks import Task
from pages.parts.common.text import plain, sentence

KEY = "launch.recipe"
DEFAULTS = ""
"""The choice that is no recipe."""


def choose(method: str, on_change: Callable[[], None]) -> None:
    """Draws the list box; `current` tells what it holds."""
    recipes = presets_of(method)
    keys = [DEFAULTS, *recipes]
    if st.session_state.get(KEY) not in keys:
        st.session_state[KEY] = DEFAULTS
    st.selectbox(
        "Recipe",
        keys,
        key=KEY,
        on_change=on_change,
        persist_state="session",
        disabled=not recipes,
        format_func=lambda key: recipes[key].title if key in recipes else "No paper's recipe",
        help="Fills the form with what the paper's authors trained with, as far as it could be read"
        if recipes
        else "No recipe of a paper is at hand for this method",
    )


def current() -> Preset | None:
    """The recipe that fills the form; None where none was chosen."""
    return presets().get(st.session_state.get(KEY, DEFAULTS))


def training_settings() -> set[str]:
    """The training settings that some recipe sets."""
    return {name for preset in presets().values() for part in (preset, *preset.tasks.values()) for name in part.train}


def explain(preset: Preset, task: Task, settings: Mapping[str, Any]) -> None:
    """What the recipe sets, where it comes from, what is uncertain about it, and what a person has changed since.

    settings: what the form holds now.
    """
    sets = preset.settings(task.key)
    with st.container(border=True, key="launch_recipe"):
        st.markdown(f":material/menu_book: **Sets** {plain(settings_text(sets), 600)}.")
        source, teacher = (plain(sentence(text), 400) for text in (preset.source, preset.teacher))
        st.caption(f"**Source**: {source} Teacher there: {teacher}")
        if preset.unverified:
            choices = " ".join(plain(sentence(line), 400) for line in preset.unverified)
            st.caption(f":material/help: **Unverified, our choice**: {choices}")
        if by_hand := changed_fields(sets, settings):
            names = ", ".join(name.replace("_", " ") for name in by_hand)
            st.caption(f":material/edit: **Changed by hand since**: {plain(names, 400)}.")
        if task.synthetic:
            st.caption(
                ":material/warning: The recipe is for pretrained models on GLUE. A pocket teacher has no pretrained "
                "base and few layers: choose random initial weights and fewer layers, and expect little of its rate."
            )
        if preset.departs:
            with st.expander("What else to know about this recipe"):
                st.markdown("\n".join(f"- {plain(line, 600)}" for line in preset.departs))


def changed_fields(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Fields of the recipe that hold something else now."""
    return [
        name
        for part in Part.model_fields
        for name, value in recipe[part].items()
        if _comparable(settings[part].get(name)) != _comparable(value)
    ]


def defaults(method: str) -> dict[str, Any]:
    """The method's own settings as this dashboard starts with them."""
    return METHODS[method].Config().model_dump()


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
