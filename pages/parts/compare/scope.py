"""What the comparison rests on: which runs count, in what else groups differ, which runs could be added."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis.comparison import Comparison
from kdcore.config import RunConfig
from kdcore.formatting import data_text
from kdcore.store import Store
from pages.parts.common import queue_runs
from pages.parts.common.text import listed, plain


def unreadable(store: Store, chosen: pd.DataFrame, by_task: list[Comparison]) -> None:
    """Names the chosen runs that no comparison holds."""
    held = {run for comparison in by_task for run in comparison.chosen["id"]}
    if lost := sorted(set(chosen["id"]) - held):
        st.warning(f"Left out, their settings cannot be read: {', '.join(map(plain, lost))}.")


def show(comparison: Comparison, everything: pd.DataFrame) -> None:
    """A line for each thing that a reader of the table should know, and a button for runs that could be added."""
    st.caption(" ".join(filter(None, (_alike(comparison), _damage(comparison)))))
    if notes := [*comparison.repeats(), *comparison.unpaired()]:
        with st.expander(f"Which runs count ({len(notes)} note{'s' if len(notes) > 1 else ''})"):
            st.markdown(
                "Of one group and seed one run counts: a finished one, of the version and machine that most runs "
                "have, the newest. Differences are between runs of like seed, version and machine."
            )
            for note in notes[:20]:
                st.markdown(f"- {plain(note, 300)}")
    more = comparison.more(everything)
    if len(more):
        groups = listed(plain(comparison.labels[group]) for group in dict.fromkeys(more["group"]))
        text = f"{len(more)} more seed{'s' if len(more) > 1 else ''} of these settings"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/add_circle: {text} {'are' if len(more) > 1 else 'is'} in the store ({groups}).")
            queue_runs.add(f"Add {len(more)}", list(more["id"]), "compare_more")


def _damage(comparison: Comparison) -> str:
    """What is wrong with the training data of these groups, made on purpose."""
    configs = [RunConfig.model_validate(comparison.settings_of(group)) for group in comparison.labels]
    texts = (data_text(config.data.model_dump(), bool(config.teachers)) for config in configs)
    found = dict.fromkeys(filter(None, texts))
    return f"Training data damaged on purpose: {listed(found, 6)}." if found else ""


def _alike(comparison: Comparison) -> str:
    """What the groups share, or in what else than the method some differ from the baseline."""
    if len(comparison.labels) < 2:
        return "One group: nothing to set it against."
    differing = comparison.also_differs()
    if not differing:
        return "All groups share data, student size, start, steps and training: what differs is the method."
    parts = [
        f"**{plain(label)}** in {plain('; '.join(f'{topic} ({text})' for topic, text in topics.items()), 300)}"
        for label, topics in differing.items()
    ]
    return f"Not only the method differs. From the baseline differ also: {listed(parts, 4)}."
