"""A link to Launch that names a run (`?clone=`) fills the form with its settings."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.methods.catalog import catalog
from kdcore.tasks import TASKS
from pages.parts.common import cards
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import plain
from pages.parts.launch import also, forms, recipe, teachers
from pages.parts.launch.defaults import BY_HAND


def fill(runs: pd.DataFrame) -> None:
    """Fills the form with the settings of the run that the address names, once."""
    run_id = st.query_params.get("clone")
    if run_id is None:
        return
    del st.query_params["clone"]
    try:
        if run_id not in set(runs["id"]):
            raise UserError("clone", "the link names a run that is not in this store", "choose one under All runs")
        row = the_store().get(run_id)
        config = row.config.model_copy(update={"name": row.name if row.config.name else ""})
        if config.method not in catalog():
            raise UserError("method", f"its method {config.method!r} is not here", _remedy(row.method_origin))
    except UserError as error:
        cards.problem(error, "The form could not be filled from a run")
        return
    _fill_form(config, runs)
    st.info(f"Filled with the settings of {plain(row.name, 80)}.", icon=":material/content_copy:")


def _remedy(origin: str) -> str:
    """origin: of the method, as the run has it."""
    if origin.endswith(".py"):
        return f"start the dashboard with KD_METHODS_DIR set to the folder of {origin}"
    return f"install {origin} and start the dashboard again" if origin else "choose another run"


def _fill_form(config: RunConfig, runs: pd.DataFrame) -> None:
    state = st.session_state
    state["launch.task"], state["launch.method"] = config.task, config.method
    state[also.KEY] = list(config.also)
    state["launch.name"], state["launch.preset"] = config.name[:190], BY_HAND
    state[recipe.KEY] = recipe.DEFAULTS
    state["launch.base"] = config.base.model_dump(mode="json") if config.base else None
    forms.fill(f"launch.options.{config.method}", config.options)
    forms.fill("launch.student", config.student.model_dump())
    forms.fill("launch.train", config.train.model_dump())
    forms.fill("launch.data", config.data.model_dump())
    forms.fill("launch.probes", config.probes.model_dump())
    if config.own:
        forms.fill("launch.own", config.own.model_dump())
    teachers.fill(config.teachers, TASKS.get(config.task), runs)
