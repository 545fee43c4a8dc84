"""Teacher, student and their difference on one scale: all heads at a glance, the nearest heads, one head in detail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import attention
from kdcore.probes.attention import nearest_heads
from pages.parts.attention import cached_maps, head_picker, nearest, one_head, token_window
from pages.parts.attention.panels import (
    HOW,
    AttentionPair,
    Head,
    Panel,
    head_of,
    scale_text,
    student_panel,
    three_panels,
)
from pages.parts.attention.token_window import TokenWindow
from pages.parts.common import cards
from pages.parts.common.numbers import numbers
from pages.parts.common.plot import Click


def show(pair: AttentionPair) -> None:
    """Draws all of it. The student is alone where there is no teacher."""
    _warn(pair)
    if pair.teacher is not None and pair.teacher.tokens != pair.student.tokens:
        st.info("Teacher and student split the sentence into different tokens, so no difference can be drawn.")
        pair = replace(pair, teacher=None)
    window = token_window.choose(pair.student.tokens)
    overview, near, detail = st.container(), st.container(), st.container()
    with detail:
        st.subheader("One head", anchor=False)
    if pair.teacher is None:
        with detail:
            head, _ = head_picker.choose(pair.student.maps, None)
        panels, distance = [student_panel(pair.student.maps, window, head)], ""
    else:
        divergences = cached_maps.compared(pair.teacher.maps, pair.student.maps)
        matches = nearest_heads(divergences.heads)
        with detail:
            head, chosen = head_picker.choose(pair.student.maps, pair.teacher.maps)
        teacher_head = chosen or next((m.teacher_layer, m.teacher_head) for m in matches if head_of(m) == head)
        panels = three_panels(
            pair.student.maps, pair.teacher.maps, pair.teacher_name, window, matches, head, teacher_head
        )
        distance = one_head.distance_text(divergences.heads, head, teacher_head, chosen is None)
        with near:
            nearest.show(divergences.layers, matches, pair, head)
    top = attention.shared_top(*(panel.maps for panel in panels[:2])) if token_window.stretched() else 1.0
    with overview:
        _overview(panels, window, top)
    with detail:
        if distance:
            st.markdown(distance)
        one_head.show(panels, window, top, pair.note)


def _warn(pair: AttentionPair) -> None:
    tokens = pair.student.tokens
    if len(tokens) >= cached_maps.MAX_TOKENS:
        st.info(f"The sentence was cut to its first {cached_maps.MAX_TOKENS} tokens.")
    unknown = tokens.count("[UNK]")
    if unknown:
        st.caption(f"{unknown} words are not in the models' vocabulary and are read as [UNK].")
    for name, maps in (("student", pair.student), ("teacher", pair.teacher)):
        if maps is not None and attention.uniform(maps.maps):
            st.warning(f"All heads of the {name} attend uniformly; are these the right weights?")


def _overview(panels: list[Panel], window: TokenWindow, top: float) -> None:
    st.subheader("All heads", anchor=False)
    rows, columns = window.rows, window.columns
    for panel, column in zip(panels, st.columns(len(panels)), strict=True):
        with column:
            cards.figure(
                partial(
                    attention.grid, panel.maps, rows, columns, panel.title,
                    top=top, signed=panel.signed, marked=panel.head, dark=cards.dark(),
                ),
                f"attention_grid_{panel.key}",
                on_click=partial(_open_tile, panel.open_head, len(rows), len(columns)),
            )  # fmt: skip
    heads = "" if len(panels) == 1 else (
        " Heads have no common order, so each student head is compared with the teacher head nearest to it, over all "
        "tokens; ringed: the heads below."
    )  # fmt: skip
    st.caption(f"Click a head to see it in detail. {scale_text(panels, top)} {token_window.describe(window)}{heads}")
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
