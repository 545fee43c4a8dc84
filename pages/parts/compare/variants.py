"""What each part of a method brings: runs of the comparison that are the whole one but for one setting."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis import variants
from kdcore.analysis.ablation import LEVEL
from kdcore.analysis.comparison import Comparison
from kdcore.figures import variants as figures
from pages.parts.common import cards
from pages.parts.common.text import metric_title, plain
from pages.parts.compare import scores

HOW = (
    "A row is a group of this comparison that differs from the chosen student in one option of its method, or in where "
    f"its weights start. The whisker is the {LEVEL:.0%} interval of the difference: a t interval of the differences "
    "seed by seed (Welch's, where the two share no seed on one version and machine). Where a loss shares one weight "
    "between two terms, the other term takes what is left out."
)


def show(comparison: Comparison, whole: str) -> None:
    """The variants of the group `whole`; without any, nothing."""
    rows = variants.variants(comparison, whole)
    if rows.empty:
        return
    st.markdown("**With one part less**")
    if waiting := variants.unfinished(comparison, rows):
        st.caption(f":material/schedule: {waiting} of these runs {'is' if waiting == 1 else 'are'} not finished yet.")
    known = rows[rows["change"].notna()]
    if known.empty:
        return
    _draw(known, comparison, whole)


def _draw(known: pd.DataFrame, comparison: Comparison, whole: str) -> None:
    dark = cards.dark()
    label = comparison.labels[whole]
    title = f"{metric_title(comparison.metric)}, dev split"
    method = str(comparison.members(whole)["method"].iloc[0])
    cards.figure(
        lambda: figures.variants(known, title, label, method, dark=dark),
        "gains_variants",
        f"Each row is **{plain(label)}** with one setting changed. Left of the line: it scores less. Whiskers and ±: "
        f"{LEVEL:.0%} interval over the seeds that both have; where it crosses the line, within seed noise.",
        data=known,
        follows=whole,
        how=HOW,
        about=scores.about(comparison),
    )
