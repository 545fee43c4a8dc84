"""Teacher and student on one scale: a number for each head, one head of each in detail, and the rest a click away."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from kdcore.figures import attention
from kdcore.probes.attention import by_words, nearest_heads
from pages.parts.attention import all_maps, cached_maps, head_picker, nearest, one_head, overview, token_window
from pages.parts.attention.panels import AttentionPair, head_of, student_panel, three_panels


def show(pair: AttentionPair) -> None:
    """Draws all of it. The student is alone where there is no teacher."""
    _warn(pair)
    pair = _of_one_text(pair)
    over = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        head, chosen = head_picker.choose(pair.student.maps, pair.teacher.maps if pair.teacher else None)
        view = one_head.choose_view()
        with st.popover("Display", icon=":material/tune:"):
            window = token_window.choose(pair.student.tokens)
    if pair.teacher is None:
        panels, distance = [student_panel(pair.student.maps, window, head)], ""
        with over:
            overview.alone(pair.student.maps, head)
    else:
        divergences = cached_maps.compared(pair.teacher.maps, pair.student.maps)
        matches = nearest_heads(divergences.heads)
        teacher_head = chosen or next((m.teacher_layer, m.teacher_head) for m in matches if head_of(m) == head)
        panels = three_panels(
            pair.student.maps, pair.teacher.maps, pair.teacher_name, window, matches, head, teacher_head
        )
        distance = one_head.distance_text(divergences.heads, head, teacher_head, chosen is None)
        with over:
            overview.both(pair, divergences.heads, head, teacher_head)
    if distance:
        st.markdown(distance)
    one_head.show(panels, window, view, pair.note)
    all_maps.show(panels, window)
    if pair.teacher is not None:
        nearest.show(divergences.layers, matches, pair, head)


def _of_one_text(pair: AttentionPair) -> AttentionPair:
    """The pair as it can be compared: between words where the models cut the sentence into different tokens."""
    if pair.teacher is None or pair.teacher.tokens == pair.student.tokens:
        return pair
    words = by_words(pair.teacher, pair.student)
    if words is None:
        st.info("Teacher and student split the sentence into different tokens, so no difference can be drawn.")
        return replace(pair, teacher=None)
    st.caption(
        f"Teacher: {len(pair.teacher.tokens)} tokens, student: {len(pair.student.tokens)}, by tokenizers of their own. "
        "They are compared between words: to a word goes what its pieces get together, from a word the mean of its "
        "pieces; special tokens are left out and rows sum to 1 again."
    )
    return replace(pair, teacher=words[0], student=words[1])


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
