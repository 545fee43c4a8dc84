"""The lines over the damage, and the table of their areas."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis.beyond import HOW, QUALITIES, Curves, areas, seed_pairs, shared_levels
from kdcore.analysis.comparison import Comparison
from kdcore.figures import severity
from kdcore.probes.robustness import EMBEDDINGS
from pages.parts.beyond.question import DAMAGES, NAMES, Question
from pages.parts.common import cards
from pages.parts.common.text import listed


def show(comparison: Comparison, curves: Curves, asked: Question) -> None:
    rows = curves.rows.dropna(subset=[asked.quality])
    if rows.empty:
        st.caption(f"No {NAMES[asked.quality]} is known of these runs: it takes their kept predictions.")
        return
    dark = cards.dark()
    ticks = {place: f"{100 * level:g}" for place, level in curves.levels.items()}
    cards.figure(
        lambda: severity.lines(
            rows, asked.quality, asked.x_title, asked.y_title, ticks=ticks, scale=asked.scale, dark=dark
        ),
        "beyond_lines",
        "One line a method, its mean over seeds; bands: ± std from three seeds on. " + _met(asked),
        data=rows,
        follows=f"{asked.damage} {asked.quality}",
        how=HOW,
        about={"task": comparison.task, "metric": comparison.metric, "damage": DAMAGES[asked.damage]},
    )
    _table(curves, asked)


def _met(asked: Question) -> str:
    """What the models meet on the dev split."""
    if asked.of_training:
        return "Dev stays clean; steps are equal."
    if asked.damage == EMBEDDINGS:
        return (
            "Each model's own word embeddings, moved by the sign of its gradient (FGSM). That is embedding space: no "
            "sentence does this, and each model meets another move."
        )
    return "All models meet the same damaged sentences."


def _table(curves: Curves, asked: Question) -> None:
    levels = shared_levels(curves, asked.quality)
    if len(levels) < 2:
        st.caption("Areas and ranks need two levels that all methods have.")
        return
    table = areas(curves, asked.quality)
    form = "%.1f" if asked.scale == 100 else "%.3f"
    shown = table.assign(**{name: asked.scale * table[name] for name in ("area", "first", "worst")})
    shown["rank"] = ["–" if rank != rank else f"{rank:.1f}" for rank in table["rank"]]
    shown = shown[["label", "area", "rank", "first", "worst", "seeds"]]
    shown.columns = ["method and student", "area", "mean rank", "undamaged", "worst level", "seeds with all levels"]
    st.dataframe(
        shown, hide_index=True, key="beyond_areas", alt="Area and mean rank of each method over the levels",
        column_config={
            name: st.column_config.NumberColumn(format=form) for name in ("area", "undamaged", "worst level")
        },
    )  # fmt: skip
    better = "more" if QUALITIES[asked.quality] else "less"
    told = ", ".join(f"{100 * level:g}" for level in levels)
    st.caption(
        f"Over the levels that all have ({told} %); {better} is better. No winner without a test."
        f"{_apart(curves, asked)}"
    )


def _apart(curves: Curves, asked: Question) -> str:
    """Which seeds are in the lines and in no test."""
    pairs = seed_pairs(curves, asked.quality)
    said = ""
    if pairs.apart:
        said += (
            f" No test over all methods counts {_seeds(pairs.apart)}, which ran on more than one machine or version."
        )
    if pairs.partial:
        said += f" Not every method has {_seeds(pairs.partial)} at all levels."
    return said


def _seeds(seeds: tuple[int, ...]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {listed(map(str, seeds), 8)}"
