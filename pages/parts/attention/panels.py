"""The maps that stand side by side: teacher, student, and their difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import streamlit as st

from kdcore.layer_map import LayerMap
from kdcore.probes.attention import AttentionMaps, HeadMatch, Maps
from pages.parts.attention.token_window import TokenWindow
from pages.parts.common.keys import HEAD, LAYER, TEACHER_HEAD

Head = tuple[int, int]
"""Layer and head, from 1."""
HOW = (
    "softmax(q kᵀ / √d) of one head, read in eval mode: each row sums to 1 over the tokens it attends to, special "
    "tokens included. Each student head is compared with the teacher head of least mean Jensen-Shannon divergence over "
    "the rows of this sentence: over all tokens, also where some are hidden or outside the window."
)


@dataclass(frozen=True)
class AttentionPair:
    """The attention of a student and perhaps of a teacher over the same tokens.

    layer_map: student layer -> teacher layers, as the method matched them. note: what else the numbers depend on.
    """

    student: AttentionMaps
    teacher: AttentionMaps | None
    teacher_name: str
    layer_map: LayerMap
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One of the pictures side by side. maps: what is drawn, [layers, heads, rows, columns]. head: chosen, from 1.

    open_head: what a click into a tile of it does.
    """

    title: str
    maps: Maps
    head: Head
    key: str
    open_head: Callable[[Head], None]
    signed: bool = False

    @property
    def head_map(self) -> Maps:
        layer, head = self.head
        result: Maps = self.maps[layer - 1, head - 1]
        return result

    @property
    def head_title(self) -> str:
        return f"{self.title} {self.head[0]}.{self.head[1]}" if not self.signed else self.title


def student_panel(student: Maps, window: TokenWindow, head: Head) -> Panel:
    return Panel("Student", window.cut(student), head, "s", open_head)


def three_panels(
    student: Maps,
    teacher: Maps,
    teacher_name: str,
    window: TokenWindow,
    matches: list[HeadMatch],
    student_head: Head,
    teacher_head: Head,
) -> list[Panel]:
    """Teacher, student, and, in the student's order, its nearest teacher heads minus its own."""
    nearest = np.empty_like(student)
    for match in matches:
        layer, head = head_of(match)
        nearest[layer - 1, head - 1] = teacher[match.teacher_layer - 1, match.teacher_head - 1]
    nearest[student_head[0] - 1, student_head[1] - 1] = teacher[teacher_head[0] - 1, teacher_head[1] - 1]
    own = student_panel(student, window, student_head)
    difference = window.cut(nearest) - own.maps
    return [
        Panel(f"Teacher {teacher_name}", window.cut(teacher), teacher_head, "t", open_teacher_head),
        own,
        Panel("Teacher head − student head", difference, student_head, "d", open_head, signed=True),
    ]


def head_of(match: HeadMatch) -> Head:
    """The student head."""
    return match.student_layer, match.student_head


def scale_text(panels: list[Panel], top: float, contrast: bool) -> str:
    """Which colours mean what. contrast: the scale ends at the largest value and goes by the square root."""
    differences = f", differences ±{top:.2f}" if len(panels) > 1 else ""
    how = " (the largest value of either model), colours by the square root" if contrast else ""
    return f"One scale for both: 0 to {top:.2f}{how}{differences}."


def open_head(head: Head) -> None:
    """Chooses a student head."""
    st.session_state[LAYER], st.session_state[HEAD] = head


def open_teacher_head(head: Head) -> None:
    """Chooses a teacher head."""
    st.session_state[TEACHER_HEAD] = f"{head[0]}.{head[1]}"
