"""The loss of a method in the numbers of one run."""

from __future__ import annotations

import streamlit as st

from kdcore.store import RunRow
from pages.parts.common import cards, loss_equation
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import plain


def loss(row: RunRow) -> None:
    """The run's own loss, stage by stage, as it stood at the stage's last logged step."""
    st.subheader("In numbers", anchor=False)
    metrics = the_store().metrics([row.id], kinds=["loss", "raw", "weighted", "gradient_share"])
    if metrics.empty:
        st.caption("This run has logged no step.")
        return
    cards.badges(row.task, row.facts.get("partial"))
    st.caption(f"The loss of {plain(row.name, 80)} as it was logged last; the weights are this run's. One seed.")
    stages = list(dict.fromkeys(metrics["stage"]))
    for index, stage in enumerate(stages):
        if len(stages) > 1:
            st.markdown(f"**Stage {plain(stage)}**")
        with cards.guarded("The loss cannot be written as an equation"):
            loss_equation.show(metrics[metrics["stage"] == stage], key=f"learn_{index}")
