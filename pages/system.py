"""System: this machine, its disk, its queue, and the data and models on it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common import cards, shell
from pages.parts.common.run_picker import the_store
from pages.parts.system import disk, environment, inventory, machine, queue

KEYS = {
    "Tab, Shift + Tab": "To the next or the previous control; the one that has the focus is ringed",
    "Enter, Space": "Press a button, tick a box, open a list",
    "Arrow keys": "Move a slider, choose in a list; in a table, from cell to cell",
    "Page Up, Page Down": "Move a slider in large steps",
    "Ctrl + F": "Search in the table that has the focus",
    "Esc": "Close a list, a dialog or a full-screen picture",
    "Tab into a plot": "Its buttons: reset zoom, PNG, SVG. The table under it has every number that hovering shows",
}
"""Key -> what it does."""


def main() -> None:
    cards.title("System", "This machine, its disk, its queue, and the data and models on it.")
    with cards.guarded("The queue cannot be shown"):
        queue.show(the_store())
    with cards.guarded("The cache cannot be measured"):
        disk.show()
    with cards.guarded("The data cannot be listed"):
        inventory.show()
    with cards.guarded("The device cannot be described"), st.spinner("Inspecting the device"):
        machine.show()
    environment.show()
    st.subheader("Keyboard shortcuts", anchor=False)
    keys = pd.DataFrame(list(KEYS.items()), columns=["key", "what it does"])
    st.dataframe(keys, hide_index=True, key="system_keys", alt="Keys and what they do", height="content")
    st.caption("Whatever a click in a plot chooses (a run, a cell, a head) can also be chosen in a list or table.")


shell.show(main)
