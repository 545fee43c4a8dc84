"""The one place where colours live. Colour means what a method matches; dash and marker tell methods of a family apart.

Colours were searched for contrast (at least 3:1 on their own background) and for distance under normal and
colour-blind vision. Teachers and the baseline without distillation are neutral, so that colour always means a method.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from kdcore.methods.catalog import catalog, title_of


@dataclass(frozen=True)
class Style:
    """How one method is drawn. `label` is its name on the screen."""

    key: str
    label: str
    family: str
    color: str
    dash: str
    marker: str
    width: float = 2.0


FAMILIES: dict[str, tuple[str, str]] = {
    "none": ("#6B7280", "#9CA3AF"),
    "soft_targets": ("#0228FD", "#0D57EB"),
    "hidden": ("#C58101", "#DDCA1D"),
    "attention": ("#005013", "#10FF94"),
    "relation": ("#EA695C", "#CA0E16"),
    "multi_teacher": ("#721188", "#984C9F"),
}
"""Family -> colour on a light page, colour on a dark page."""

FAMILY_WORDS: dict[str, str] = {
    "none": "no distillation",
    "soft_targets": "soft targets",
    "hidden": "hidden states",
    "attention": "attention",
    "relation": "relations",
    "multi_teacher": "several teachers",
}

TEACHER = Style("teacher", "Teacher", "teacher", "#111827", "solid", "star", 3.0)
_TEACHER_DARK = "#F9FAFB"
_UNKNOWN = ("#6B7280", "#9CA3AF")

_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot", "dot")
_MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "pentagon", "hexagon", "star-triangle-up")

TERM_COLORS: tuple[tuple[str, str], ...] = (
    ("#475569", "#CBD5E1"),
    ("#168EDF", "#36AEFF"),
    ("#B45309", "#F5B041"),
    ("#0F766E", "#2DD4BF"),
    ("#9D174D", "#F472B6"),
    ("#4D7C0F", "#A3E635"),
)
"""Colours of the loss terms of one run, in the order the method names them (light, dark). Not method colours."""

SEQUENTIAL = "Cividis"
"""Attention, similarity and distance: one hue order from dark to light, readable in grey."""

DIVERGING_LIGHT: list[tuple[float, str]] = [
    (0.0, "#1E4E9C"), (0.25, "#86B0E0"), (0.5, "#FAFAFA"), (0.75, "#E0A076"), (1.0, "#8C3A0B"),
]  # fmt: skip
DIVERGING_DARK: list[tuple[float, str]] = [
    (0.0, "#8CC0FF"), (0.25, "#3B6AA8"), (0.5, "#16191F"), (0.75, "#A8602F"), (1.0, "#FFB27A"),
]  # fmt: skip


def diverging(dark: bool) -> list[tuple[float, str]]:
    """Blue below zero, neutral at zero, brown above; the middle is the page's own colour."""
    return DIVERGING_DARK if dark else DIVERGING_LIGHT


def teacher(dark: bool) -> Style:
    """The neutral look of teachers."""
    color = _TEACHER_DARK if dark else TEACHER.color
    return Style(TEACHER.key, TEACHER.label, TEACHER.family, color, TEACHER.dash, TEACHER.marker, TEACHER.width)


@cache
def style(method: str, dark: bool = False) -> Style:
    """The look of a method, the same on every page.

    A method that is not installed (a run from elsewhere) is drawn in neutral grey under its own key.
    """
    family, label, rank = _identity(method)
    color = FAMILIES.get(family, _UNKNOWN)[dark]
    if family == "none":
        return Style(method, label, family, color, "dot", "x")
    start = list(FAMILIES).index(family) - 1 if family in FAMILIES else 5
    dash = _DASHES[(start + rank) % len(_DASHES)]
    return Style(method, label, family, color, dash, _MARKERS[(start + rank) % len(_MARKERS)])


def term_color(index: int, dark: bool = False) -> str:
    """Colour of the n-th term of a run's loss."""
    return TERM_COLORS[index % len(TERM_COLORS)][dark]


def faded(color: str, opacity: float) -> str:
    """`#RRGGBB` as an rgba() string."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def _identity(method: str) -> tuple[str, str, int]:
    """Family, label and place among the methods of the family."""
    methods = catalog()
    if method not in methods:
        return "unknown", title_of(method), 0
    family = methods[method].family
    siblings = [key for key, other in methods.items() if other.family == family]
    return family, title_of(method), siblings.index(method)
