"""The moments of a training that a run kept: the slider over them, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kdcore.paths import run_dir
from kdcore.probes import snapshots
from kdcore.probes.snapshots import Kept
from pages.parts.common.text import size

END = "kept student"
"""In place of a step: the weights that the run kept, the best by `select`."""


def of_run(run: str) -> Kept | None:
    """What the run kept while it trained; None where it kept nothing.

    Raises:
        UserError: it does not read.
    """
    return snapshots.read(run_dir(run))


def slider(words: Sequence[str]) -> str:
    """A slider over moments (steps, perhaps `END` after them), tied to `?moment=`; at first the last."""
    if len(words) < 2:
        return words[-1]
    if st.session_state.get("moment") not in (None, *words):
        st.session_state["moment"] = words[-1]  # of another run
    chosen = st.select_slider(
        "Training step",
        words,
        value=words[-1],
        key="moment",
        bind="query-params",
        help=f"Moments kept while the student learned. {END.capitalize()}: the weights that the run kept",
    )
    return chosen if chosen in words else words[-1]


def words_of(moment: str) -> str:
    """A moment inside a sentence."""
    return f"the {END}" if moment == END else f"step {moment}"


def cost(kept: Kept) -> str:
    """What the moments of a run took, as a sentence."""
    found = snapshots.cost(kept.folder)
    return (
        f"{len(kept.steps)} moments were kept while training: {size(found['bytes'])} on disk, "
        f"{found['seconds']:.1f} s of the run's time; they change nothing in the training."
    )
