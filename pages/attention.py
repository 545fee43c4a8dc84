"""Attention: where teacher and student look in a sentence of your own, on one scale, and where they differ."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import attention
from kdcore.probes.attention import AttentionMaps, best_heads
from pages.parts import cards, entry, looked
from pages.parts.plot import Click
from pages.parts.selection import one_run, the_store
from pages.parts.text import listed, one_line, plain, task_of

LONGEST_TEXT = 600
HOW = (
    "softmax(q kᵀ / √d) of one head, read off in eval mode: each row sums to 1 over the tokens it looks at, special "
    "tokens included. A student head stands beside the teacher head of least mean Jensen-Shannon divergence over the "
    "rows of this sentence."
)


def main() -> None:
    cards.title("Attention", "From each token (row) to each token (column). Teacher and student see the same sentence.")
    store = the_store()
    runs = store.runs(include_archived=True)
    runs = runs[runs["state"].isin(["done", "stopped"])]
    runs = runs.sort_values("teachers", key=lambda names: names == "", kind="stable")
    if runs.empty:
        cards.empty("**No finished run yet.** Attention needs a student that was kept.", "start", "Go to Start")
        return
    run = one_run(runs, "Run", "attention_run", prefer=("done",))
    if run is None:
        return
    row = store.get(run)
    with cards.guarded("The models of this run cannot be read"):
        when = looked.stamp(run)
        sentence, pair = _sentence(row.task)
        if not sentence.strip():
            cards.empty("**Type a sentence** above, or take one of the samples.")
            return
        names = looked.teacher_names(run, when)
        teacher = st.selectbox("Teacher", names, key="attention_teacher") if len(names) > 1 else next(iter(names), None)
        teacher = teacher if teacher in names else None
        with st.spinner("The models read the sentence"):
            ours = looked.student_maps(run, when, sentence, pair)
            theirs = looked.teacher_maps(run, when, teacher, sentence, pair) if teacher else None
        _pictures(ours, theirs, teacher)


def _sentence(task: str) -> tuple[str, str | None]:
    """The typed sentence, and the second one where the task has pairs."""
    found = task_of(task)
    pairs = bool(found and len(found.columns) > 1)
    chips: list[tuple[str, str | None]] = []
    with cards.guarded("The samples of this task cannot be read"):
        chips = looked.samples(task) if found else []
    if chips and st.session_state.get("attention_for") != task:
        st.session_state["attention_for"] = task
        _take(chips, 0)
    picked = (
        st.pills(
            "Samples",
            range(len(chips)),
            key="attention_sample",
            on_change=_sampled,
            args=(chips,),
            format_func=lambda at: one_line(chips[at][0], 48),
        )
        if chips
        else None
    )
    del picked
    sentence = st.text_input("Sentence", key="attention_text", max_chars=LONGEST_TEXT, persist_state="session")
    if not pairs:
        return sentence[:LONGEST_TEXT], None
    second = st.text_input("Second sentence", key="attention_pair", max_chars=LONGEST_TEXT, persist_state="session")
    return sentence[:LONGEST_TEXT], second[:LONGEST_TEXT] or None


def _take(chips: list[tuple[str, str | None]], at: int) -> None:
    st.session_state["attention_text"] = chips[at][0]
    st.session_state["attention_pair"] = chips[at][1] or ""


def _sampled(chips: list[tuple[str, str | None]]) -> None:
    at = st.session_state.get("attention_sample")
    if isinstance(at, int) and 0 <= at < len(chips):
        _take(chips, at)


def _pictures(ours: AttentionMaps, theirs: AttentionMaps | None, teacher: str | None) -> None:
    dark = cards.dark()
    if len(ours.tokens) >= looked.LONGEST:
        st.info(f"The sentence was cut to its first {looked.LONGEST} tokens.")
    unknown = [token for token in ours.tokens if token == "[UNK]"]
    if unknown:
        st.caption(f"{len(unknown)} words are not in the models' vocabulary and are read as [UNK].")
    for name, maps in (("student", ours), ("teacher", theirs)):
        if maps is not None and attention.uniform(maps.maps):
            st.warning(f"Every head of the {name} looks everywhere alike; are these the right weights?")
    if theirs is None or theirs.tokens != ours.tokens:
        if theirs is not None:
            st.info("Teacher and student cut the sentence into different tokens, so no difference can be drawn.")
        _one("Student", ours, "attention_student", dark)
        if theirs is not None:
            _one(f"Teacher {teacher}", theirs, "attention_teacher_alone", dark)
        return
    stretch = st.toggle(
        "Stretch the colours to the largest value",
        key="attention_stretch",
        persist_state="session",
        help="Off: the scale ends at 1 for both models. On: at the largest value of either",
    )
    top = attention.shared_top(ours.maps, theirs.maps) if stretch else 1.0
    matched, places = _matched(ours, theirs)
    change = matched - ours.maps
    st.subheader("All heads", anchor=False)
    left, middle, right = st.columns(3)
    with left:
        cards.figure(lambda: attention.grid(theirs.maps, f"Teacher {teacher}", top=top, dark=dark), "attention_grid_t")
    with middle:
        cards.figure(
            lambda: attention.grid(ours.maps, "Student", top=top, dark=dark),
            "attention_grid_s",
            on_click=partial(_open, len(ours.tokens)),
        )
    with right:
        cards.figure(
            lambda: attention.grid(change, "Nearest teacher head − student", top=top, signed=True, dark=dark),
            "attention_grid_d",
            on_click=partial(_open, len(ours.tokens)),
        )
    st.caption(
        "Click a head of the student or of the difference to see it in detail. "
        f"One scale: 0 to {top:.2f}, differences ±{top:.2f}. {len(ours.tokens)} tokens. Heads have no common order, so "
        "each student head is set against the teacher head nearest to it (least Jensen-Shannon divergence here)."
    )
    _detail(ours, theirs, change, places, top, dark)


def _open(tokens: int, click: Click) -> None:
    if click.row is not None and click.column is not None:
        layer, head = attention.tile_at(click.row, click.column, tokens)
        st.session_state["attention_layer"], st.session_state["attention_head"] = layer, head


def _one(title: str, maps: AttentionMaps, key: str, dark: bool) -> None:
    cards.figure(lambda: attention.grid(maps.maps, title, top=1.0, dark=dark), key, "Scale 0 to 1.")


def _matched(ours: AttentionMaps, theirs: AttentionMaps) -> tuple[np.ndarray, dict[tuple[int, int], tuple[int, int]]]:
    """The nearest teacher head of each student head, in the student's order, and where it stands."""
    matched = np.empty_like(ours.maps)
    places = {}
    for match in best_heads(theirs.maps, ours.maps):
        at, found = (match.student_layer, match.student_head), (match.teacher_layer, match.teacher_head)
        matched[at[0] - 1, at[1] - 1] = theirs.maps[found[0] - 1, found[1] - 1]
        places[at] = found
    return matched, places


def _detail(
    ours: AttentionMaps,
    theirs: AttentionMaps,
    change: np.ndarray,
    places: dict[tuple[int, int], tuple[int, int]],
    top: float,
    dark: bool,
) -> None:
    st.subheader("One head", anchor=False)
    layers, heads = ours.maps.shape[:2]
    with st.container(horizontal=True):
        layer = st.number_input("Student layer", 1, layers, 1, key="attention_layer", width=160)
        head = st.number_input("Student head", 1, heads, 1, key="attention_head", width=160)
    layer, head = min(max(int(layer), 1), layers), min(max(int(head), 1), heads)
    t_layer, t_head = places[layer, head]
    three = (
        (f"Teacher {t_layer}.{t_head}", theirs.maps[t_layer - 1, t_head - 1], False, "attention_head_t"),
        (f"Student {layer}.{head}", ours.maps[layer - 1, head - 1], False, "attention_head_s"),
        ("Teacher − student", change[layer - 1, head - 1], True, "attention_head_d"),
    )
    for place, (title, values, signed, key) in zip(st.columns(3), three, strict=True):
        with place:
            cards.figure(
                partial(attention.head, values, ours.tokens, title, top=top, signed=signed, dark=dark),
                key,
            )
    st.caption(
        f"Layer.head, counted from 1. Rows look at columns. Colours as above: 0 to {top:.2f}, differences ±{top:.2f}. "
        f"Tokens: {plain(listed(ours.tokens, 64), 600)}"
    )
    tokens = len(ours.tokens)
    table = pd.DataFrame(
        {
            "from": [word for word in ours.tokens for _ in range(tokens)],
            "to": ours.tokens * tokens,
            **{title: values.ravel() for title, values, _, _ in three},
        }
    )
    cards.numbers(table, "attention_head", HOW)


entry.show(main)
