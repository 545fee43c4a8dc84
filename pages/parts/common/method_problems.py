"""What is wrong with methods from outside that were named and cannot be taken."""

from __future__ import annotations

import streamlit as st

from kdcore.methods import problems
from pages.parts.common.text import plain, sentence


def show() -> None:
    for problem in problems():
        text = f"**{plain(problem.field)}** is left out. {plain(sentence(problem.problem), 400)}"
        st.warning(f"{text} {plain(sentence(problem.remedy), 400)}", icon=":material/extension_off:")
