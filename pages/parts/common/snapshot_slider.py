"""The snapshots that a run kept while it trained: the slider over them, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kdcore.analysis.layer_distances import END
from kdcore.probes import snapshots
from kdcore.probes.snapshots import SnapshotReader
from pages.parts.common.keys import MOMENT
from pages.parts.common.text import size


def slider(moments: Sequence[str]) -> str:
    """A slider over moments (steps, perhaps `END` after them), tied to `?moment=`; at first the last."""
    if len(moments) < 2:
        return moments[-1]
    if st.session_state.get(MOMENT) not in (None, *moments):
        st.session_state[MOMENT] = moments[-1]  # of another run
    moment = st.select_slider(
        "Training step",
        moments,
        value=moments[-1],
        key=MOMENT,
        bind="query-params",
        help=f"Snapshots taken while the student learned. {END.capitalize()}: the weights that the run kept",
    )
    return moment if moment in moments else moments[-1]


def moment_text(moment: str) -> str:
    """A moment inside a sentence."""
    return f"the {END}" if moment == END else f"step {moment}"


def cost_text(kept: SnapshotReader) -> str:
    """What the snapshots of a run took, as a sentence."""
    cost = snapshots.cost(kept.folder)
    return (
        f"{len(kept.steps)} snapshots were taken while training: {size(cost['bytes'])} on disk, "
        f"{cost['seconds']:.1f} s of the run's time; they do not change the training."
    )
