"""What is wrong with the training data, made on purpose."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kdcore.config import DataConfig
from pages.parts.launch import forms


def choose() -> dict[str, Any]:
    """The settings of the data, closed away: most runs leave the rows as they are."""
    with st.expander("Few, wrong or unbalanced labels", key="launch_damage"):
        st.caption("Damages the training rows on purpose, the same ones for every method and seed; dev stays clean.")
        return forms.fields(DataConfig, "launch.data")
