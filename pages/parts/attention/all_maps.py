"""Every head of every layer as a small map, closed until it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import attention
from pages.parts.attention import token_window
from pages.parts.attention.panels import HOW, Head, Panel, scale_text
from pages.parts.attention.token_window import TokenWindow
from pages.parts.common import cards
from pages.parts.common.numbers import numbers
from pages.parts.common.plot import Click


def show(panels: list[Panel], window: TokenWindow) -> None:
    expander = st.expander("All heads as maps", key="attention_all_maps", on_change="rerun")
    if expander.open:
        with expander:
            _tiles(panels, window)


def _tiles(panels: list[Panel], window: TokenWindow) -> None:
    contrast = token_window.stretched()
    top = attention.shared_top(*(panel.maps for panel in panels[:2])) if contrast else 1.0
    rows, columns = window.rows, window.columns
    for panel in panels:
        cards.figure(
            partial(
                attention.grid, panel.maps, rows, columns, panel.title,
                top=top, signed=panel.signed, marked=panel.head, contrast=contrast, dark=cards.dark(),
            ),
            f"attention_grid_{panel.key}",
            on_click=partial(_open_tile, panel.open_head, len(rows), len(columns)),
        )  # fmt: skip
    heads = "" if len(panels) == 1 else (
        " Heads have no common order, so each student head is compared with the teacher head nearest to it, over all "
        "tokens; ringed: the heads above."
    )  # fmt: skip
    st.caption(
        f"Click a head to see it in detail. {scale_text(panels, top, contrast)} {token_window.describe(window)}{heads}"
    )
    numbers(_table(panels, window), "attention_all", HOW)


def _table(panels: list[Panel], window: TokenWindow) -> pd.DataFrame:
    """Each cell of the student's heads, and of the teacher head that each is compared with."""
    student = panels[min(1, len(panels) - 1)].maps
    indices = np.indices(student.shape).reshape(4, -1)
    table = {"student layer": indices[0] + 1, "student head": indices[1] + 1}
    for name, codes, tokens in (("from", indices[2], window.rows), ("to", indices[3], window.columns)):
        table[name] = np.array(tokens, dtype=object)[codes]
    table["student"] = student.ravel()
    if len(panels) > 1:
        table["teacher − student"] = panels[2].maps.ravel()
        table["teacher"] = table["teacher − student"] + table["student"]
    return pd.DataFrame(table)


def _open_tile(open_head: Callable[[Head], None], rows: int, columns: int, click: Click) -> None:
    if click.row is not None and click.column is not None:
        open_head(attention.tile_at(click.row, click.column, rows, columns))
