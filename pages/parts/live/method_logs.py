"""What the method logs beside its losses: a plot where it changes, a line of text where it does not."""

from __future__ import annotations

from functools import partial

import streamlit as st

from kdcore.figures import method_logs as figures
from kdcore.store import RunRow
from pages.parts.common import cards
from pages.parts.common.text import listed, plain
from pages.parts.live.figure_cache import line_plot
from pages.parts.live.loss_curves import logged_values
from pages.parts.live.point_cache import CachedPoints


def show(points: CachedPoints, row: RunRow) -> None:
    dark = cards.dark()
    values = {name: series.value for (kind, name), series in points.quantities.items() if kind == figures.NOTE}
    for family, names in figures.families(values).items():
        numbers = partial(logged_values, row.id, [figures.NOTE], names)
        title = plain(family.replace("_", " ")).capitalize()
        if family == figures.DRAWS:
            st.subheader("Teacher draws", anchor=False)
            lines, figure = partial(figures.draw_lines, dark=dark), partial(figures.draws, dark=dark)
            cards.figure(
                partial(line_plot, "live_draws", points, lines, figure, dark),
                "live_draws",
                "How often each teacher was drawn, as a share of the steps so far; dotted: its probability.",
                data=numbers,
                follows=row.id,
                how="Counted at every step of the student that is kept; draws of pilot students are left out.",
            )
        elif any(len(set(values[name])) > 1 for name in names):
            st.subheader(title, anchor=False)
            lines = partial(figures.reading_lines, family=family, dark=dark)
            figure = partial(figures.readings, family=family, dark=dark)
            key = f"live_note_{family}"
            cards.figure(partial(line_plot, key, points, lines, figure, dark), key, data=numbers, follows=row.id)
        else:
            texts = (f"{plain(name.partition('/')[2] or name)} {values[name][-1]:.3g}" for name in names)
            st.caption(f"{title}: {listed(texts, 12)}.")
