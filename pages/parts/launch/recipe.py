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
    """Draws the list box; `chosen` tells what it holds."""
    found = presets_of(method)
    keys = [DEFAULTS, *found]
    if st.session_state.get(KEY) not in keys:
        st.session_state[KEY] = DEFAULTS
    st.selectbox(
        "Recipe",
        keys,
        key=KEY,
        on_change=on_change,
        persist_state="session",
        disabled=not found,
        format_func=lambda key: found[key].title if key in found else "This dashboard's defaults",
        help="Fills the form with what the paper's authors trained with, as far as it could be read"
        if found
        else "No recipe of a paper is at hand for this method",
    )


def chosen() -> Preset | None:
    """The recipe that fills the form; None where this dashboard's defaults do."""
    return presets().get(st.session_state.get(KEY, DEFAULTS))


def touched() -> set[str]:
    """The training settings that some recipe sets."""
    return {name for one in presets().values() for part in (one, *one.tasks.values()) for name in part.train}


def explain(one: Preset, task: Task, settings: Mapping[str, Any]) -> None:
    """What the recipe sets, where it comes from, what is uncertain about it, and what a person has changed since.

    settings: what the form holds now.
    """
    said = one.settings(task.key)
    with st.container(border=True, key="launch_recipe"):
        st.markdown(f":material/menu_book: **Sets** {plain(settings_text(said), 600)}.")
        st.caption(f"**Source**: {plain(sentence(one.source), 400)} Teacher there: {plain(sentence(one.teacher), 400)}")
        if one.unverified:
            words = " ".join(plain(sentence(line), 400) for line in one.unverified)
            st.caption(f":material/help: **Unverified, our choice**: {words}")
        if by_hand := changed(said, settings):
            names = ", ".join(name.replace("_", " ") for name in by_hand)
            st.caption(f":material/edit: **Changed by hand since**: {plain(names, 400)}.")
        if task.synthetic:
            st.caption(
                ":material/warning: The recipe is for pretrained models on GLUE. A pocket teacher has no pretrained "
                "base and few layers: choose random initial weights and fewer layers, and expect little of its rate."
            )
        if one.departs:
            with st.expander("What else to know about this recipe"):
                st.markdown("\n".join(f"- {plain(line, 600)}" for line in one.departs))


def changed(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
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
