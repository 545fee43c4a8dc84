"""Teacher, student and their difference on one scale: all heads at a glance, what is near what, one head in detail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.figures import attention, layers
from kdcore.probes.attention import AttentionMaps, HeadMatch, Maps, nearest_heads
from pages.parts.attention import cached_maps, token_window
from pages.parts.attention.cached_maps import Compared
from pages.parts.attention.token_window import View
from pages.parts.common import cards
from pages.parts.common.plot import Click
from pages.parts.common.text import listed, plain

Head = tuple[int, int]
"""Layer and head, from 1."""
NEAREST = "nearest"
HOW = (
    "softmax(q kᵀ / √d) of one head, read off in eval mode: each row sums to 1 over the tokens it looks at, special "
    "tokens included. A student head stands beside the teacher head of least mean Jensen-Shannon divergence over the "
    "rows of this sentence: over all tokens, also where some are hidden or outside the window."
)


@dataclass(frozen=True)
class Look:
    """What a student and perhaps a teacher see in the same tokens.

    layer_map: student layer -> teacher layer, as the method matched them. note: what else the numbers depend on.
    """

    student: AttentionMaps
    teacher: AttentionMaps | None
    name: str
    layer_map: Mapping[int, int]
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One of the pictures side by side. maps: what is drawn, [layers, heads, rows, columns]. head: looked at, from 1.

    opens: what a click into a tile of it chooses.
    """

    title: str
    maps: Maps
    head: tuple[int, int]
    key: str
    opens: Callable[[Head], None]
    signed: bool = False

    @property
    def one(self) -> Maps:
        layer, head = self.head
        return self.maps[layer - 1, head - 1]

    @property
    def said(self) -> str:
        return f"{self.title} {self.head[0]}.{self.head[1]}" if not self.signed else self.title


def show(look: Look) -> None:
    """Draws all of it. The student stands alone where there is no teacher."""
    _warn(look)
    if look.teacher is not None and look.teacher.tokens != look.student.tokens:
        st.info("Teacher and student cut the sentence into different tokens, so no difference can be drawn.")
        look = replace(look, teacher=None)
    seen = token_window.choose(look.student.tokens)
    overview, near, detail = st.container(), st.container(), st.container()
    with detail:
        st.subheader("One head", anchor=False)
        if look.teacher is None:
            own, _ = _choose(look.student.maps, None)
            panels = [Panel("Student", seen.cut(look.student.maps), own, "s", _open)]
        else:
            found = cached_maps.compared(look.teacher.maps, look.student.maps)
            matches = nearest_heads(found.heads)
            own, picked = _choose(look.student.maps, look.teacher.maps)
            theirs = picked or next((m.teacher_layer, m.teacher_head) for m in matches if _place(m) == own)
            panels = _three(look.student.maps, look.teacher.maps, look.name, seen, matches, own, theirs)
            with near:
                _near(found, matches, look, own)
    scale = _top(panels)
    with overview:
        _overview(panels, seen, scale)
    with detail:
        if look.teacher is not None:
            _distance(found, own, theirs, picked is None)
        _one_head(panels, seen, scale, look.note)


def _three(
    student: Maps, teacher: Maps, name: str, seen: View, matches: list[HeadMatch], own: Head, theirs: Head
) -> list[Panel]:
    """Teacher, student, and, in the student's order, its nearest teacher heads less its own."""
    nearest = np.empty_like(student)
    for match in matches:
        layer, head = _place(match)
        nearest[layer - 1, head - 1] = teacher[match.teacher_layer - 1, match.teacher_head - 1]
    nearest[own[0] - 1, own[1] - 1] = teacher[theirs[0] - 1, theirs[1] - 1]
    ours = seen.cut(student)
    return [
        Panel(f"Teacher {name}", seen.cut(teacher), theirs, "t", _open_teacher),
        Panel("Student", ours, own, "s", _open),
        Panel("Teacher head − student head", seen.cut(nearest) - ours, own, "d", _open, signed=True),
    ]


def _place(match: HeadMatch) -> Head:
    return match.student_layer, match.student_head


def _warn(look: Look) -> None:
    tokens = look.student.tokens
    if len(tokens) >= cached_maps.LONGEST:
        st.info(f"The sentence was cut to its first {cached_maps.LONGEST} tokens.")
    unknown = tokens.count("[UNK]")
    if unknown:
        st.caption(f"{unknown} words are not in the models' vocabulary and are read as [UNK].")
    for name, maps in (("student", look.student), ("teacher", look.teacher)):
        if maps is not None and attention.uniform(maps.maps):
            st.warning(f"Every head of the {name} looks everywhere alike; are these the right weights?")


def _choose(student: Maps, teacher: Maps | None) -> tuple[Head, Head | None]:
    """The student head that is looked at, and the teacher head beside it; None: the nearest."""
    with st.container(horizontal=True):
        layer = _counted("Student layer", "layer", student.shape[0])
        head = _counted("Student head", "head", student.shape[1])
        if teacher is None:
            return (layer, head), None
        places = [(t_layer + 1, t_head + 1) for t_layer, t_head in np.ndindex(*teacher.shape[:2])]
        options = {NEAREST: None} | {f"{t_layer}.{t_head}": (t_layer, t_head) for t_layer, t_head in places}
        if st.session_state.get("thead") not in (None, *options):
            st.session_state["thead"] = NEAREST
        asked = st.selectbox(
            "Teacher head", list(options), key="thead", bind="query-params", width=160, help="Layer.head, from 1"
        )
    return (layer, head), options.get(asked)


def _counted(label: str, key: str, most: int) -> int:
    if st.session_state.get(key, 1) not in range(1, most + 1):
        st.session_state[key] = most  # of a larger model
    return int(st.number_input(label, 1, most, key=key, bind="query-params", width=160))


def _top(panels: list[Panel]) -> float:
    """End of the one colour scale."""
    return attention.shared_top(*(panel.maps for panel in panels[:2])) if token_window.stretched() else 1.0


def _overview(panels: list[Panel], seen: View, top: float) -> None:
    st.subheader("All heads", anchor=False)
    rows, columns = seen.rows, seen.columns
    for panel, place in zip(panels, st.columns(len(panels)), strict=True):
        with place:
            cards.figure(
                partial(
                    attention.grid, panel.maps, rows, columns, panel.title,
                    top=top, signed=panel.signed, marked=panel.head, dark=cards.dark(),
                ),
                f"attention_grid_{panel.key}",
                on_click=partial(_clicked, panel.opens, len(rows), len(columns)),
            )  # fmt: skip
    alone = len(panels) == 1
    heads = "" if alone else (
        " Heads have no common order, so each student head is set against the teacher head nearest to it, over all "
        "tokens; ringed: the heads below."
    )  # fmt: skip
    st.caption(f"Click a head to see it in detail. {_scale(panels, top)} {token_window.in_words(seen)}{heads}")
    cards.numbers(_every_cell(panels, seen), "attention_all", HOW)


def _scale(panels: list[Panel], top: float) -> str:
    return f"One scale: 0 to {top:.2f}{f', differences ±{top:.2f}' if len(panels) > 1 else ''}."


def _every_cell(panels: list[Panel], seen: View) -> pd.DataFrame:
    """Each cell of the student's heads, and of the teacher head that each stands beside."""
    student = panels[min(1, len(panels) - 1)].maps
    places = np.indices(student.shape).reshape(4, -1)
    table = {"student layer": places[0] + 1, "student head": places[1] + 1}
    for word, codes, tokens in (("from", places[2], seen.rows), ("to", places[3], seen.columns)):
        table[word] = np.array(tokens, dtype=object)[codes]
    table["student"] = student.ravel()
    if len(panels) > 1:
        table["teacher − student"] = panels[2].maps.ravel()
        table["teacher"] = table["teacher − student"] + table["student"]
    return pd.DataFrame(table)


def _near(found: Compared, matches: list[HeadMatch], look: Look, own: Head) -> None:
    """Which teacher head each student head is nearest to, and how far the layers are."""
    st.subheader("What is near what", anchor=False)
    left, right = st.columns(2)
    with left:
        matched = {ours: theirs for ours, theirs in look.layer_map.items() if ours and theirs}
        values = found.layers
        cards.figure(
            lambda: layers.matrix(values, "js", matched, cards.dark(), first=1),
            "attention_layers",
            "Layer against layer, on the mean of each layer's heads; 0: the same. "
            f"{'Outlined: the layers that the method matches. ' if matched else ''}Click a cell to open that layer.",
            data=pd.DataFrame(
                [(t + 1, s + 1, values[t, s]) for t, s in np.ndindex(*values.shape)],
                columns=["teacher layer", "student layer", "divergence"],
            ),
            follows=look.name,
            on_click=_open_layer,
        )
    with right:
        table = pd.DataFrame(
            {
                "": ["◀" if _place(match) == own else "" for match in matches],
                "student head": [f"{match.student_layer}.{match.student_head}" for match in matches],
                "teacher head": [f"{match.teacher_layer}.{match.teacher_head}" for match in matches],
                "divergence": [match.divergence for match in matches],
            }
        )
        st.dataframe(
            table,
            hide_index=True,
            height=340,
            key="attention_matches",
            column_config={"": st.column_config.Column(width=30),
                           "divergence": st.column_config.NumberColumn(format="%.4f")},
            alt="For each student head the nearest teacher head and their divergence",
        )  # fmt: skip
        st.caption(
            "The nearest teacher head of each student head (layer.head, from 1), and their mean Jensen-Shannon "
            "divergence over all tokens in nats; ◀ marks the head below."
        )


def _distance(found: Compared, own: Head, theirs: Head, nearest: bool) -> None:
    (layer, head), (t_layer, t_head) = own, theirs
    value = found.heads[t_layer - 1, t_head - 1, layer - 1, head - 1]
    chosen = "the nearest of all" if nearest else "chosen here"
    st.markdown(
        f"Student head **{layer}.{head}** beside teacher head **{t_layer}.{t_head}**, {chosen}: "
        f"divergence **{value:.4f}** nats."
    )


def _one_head(panels: list[Panel], seen: View, top: float, note: str) -> None:
    rows, columns = seen.rows, seen.columns
    said = _beside(panels)
    for panel, place in zip(panels, st.columns(max(2, len(panels))), strict=False):
        with place:
            cards.figure(
                partial(
                    attention.head, panel.one, rows, columns, panel.said,
                    top=top, labels=said, signed=panel.signed, dark=cards.dark(),
                ),
                f"attention_head_{panel.key}",
            )  # fmt: skip
    st.caption(
        f"Rows look at columns; point at a cell for its numbers. {_scale(panels, top)} "
        f"{token_window.in_words(seen)} {note} "
        f"Tokens: {plain(listed(seen.tokens, 128), 1200)}"
    )
    table = pd.DataFrame(
        {
            "from": [word for word in rows for _ in columns],
            "to": columns * len(rows),
            **{panel.said: panel.one.ravel() for panel in panels},
        }
    )
    cards.numbers(table, "attention_head", HOW)


def _beside(panels: list[Panel]) -> NDArray[np.str_] | None:
    """For each cell, what all three say there."""
    if len(panels) < 3:
        return None
    cells = zip(*(panel.one.ravel() for panel in panels), strict=True)
    said = [f"<br>teacher {t:.3f}, student {s:.3f}, difference {d:+.3f}" for t, s, d in cells]
    return np.array(said).reshape(panels[0].one.shape)


def _clicked(opens: Callable[[Head], None], rows: int, columns: int, click: Click) -> None:
    if click.row is not None and click.column is not None:
        opens(attention.tile_at(click.row, click.column, rows, columns))


def _open(head: Head) -> None:
    st.session_state["layer"], st.session_state["head"] = head


def _open_teacher(head: Head) -> None:
    st.session_state["thead"] = f"{head[0]}.{head[1]}"


def _open_layer(click: Click) -> None:
    if click.row is not None:
        st.session_state["layer"] = click.row + 1
