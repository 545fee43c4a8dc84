"""The one place where colours live. Colour means what a method matches; dash and marker tell any two methods apart.

Colours were searched for contrast (at least 3:1 on their own background) and for distance under normal and
colour-blind vision, where nine families cannot all lie far apart: a line or point never rests on its colour alone.
Teachers and the baseline without distillation are neutral, so that colour always means a method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from plotly.colors import sample_colorscale

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
    "choice": ("#721188", "#984C9F"),
    "gradient": ("#F318B6", "#FFB6FF"),
    "form": ("#556D0C", "#E77931"),
    "data": ("#9279F3", "#B686FF"),
}
"""Family -> colour on a light page, colour on a dark page."""

TEACHER = Style("teacher", "Teacher", "teacher", "#111827", "solid", "star", 3.0)
_TEACHER_DARK = "#F9FAFB"
_UNKNOWN = ("#6B7280", "#9CA3AF")
BASELINE, UNKNOWN = ("dot", "x"), ("dot", "octagon")
"""Dash and marker of training alone, and of methods that are not installed: no other method has them."""

_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")
_TERM_DASHES = ("solid", "dash", "longdash", "dashdot", "longdashdot")
_MARKERS = (
    "circle", "square", "diamond", "triangle-up", "cross", "pentagon", "triangle-down", "hourglass",
    "star-triangle-up", "bowtie", "hexagon", "triangle-left", "diamond-tall", "triangle-right",
    "diamond-wide", "hexagram",
)  # fmt: skip
"""As many as have no divisor in common with the dashes: 80 methods have a pair of their own."""

TERM_COLORS: tuple[tuple[str, str], ...] = (
    ("#475569", "#CBD5E1"),
    ("#168EDF", "#36AEFF"),
    ("#B45309", "#F5B041"),
    ("#0F766E", "#2DD4BF"),
    ("#9D174D", "#F472B6"),
    ("#4D7C0F", "#A3E635"),
)
"""Colours of things in a row that have no meaning of their own (light, dark). Not method colours."""

TERM_FAMILIES: dict[str, str] = {
    "hard": "none",
    "words": "none",
    "teacher_words": "none",
    "student_words": "none",
    "masked": "none",
    "smoothed": "none",
    "teacher": "none",
    "soft": "soft_targets",
    "peer": "soft_targets",
    "answer": "soft_targets",
    "auxiliary": "soft_targets",
    "vocabulary": "soft_targets",
    "ptp": "soft_targets",
    "patience": "hidden",
    "hidden": "hidden",
    "embedding": "hidden",
    "cosine": "hidden",
    "states": "hidden",
    "hint": "hidden",
    "feature": "hidden",
    "scores": "attention",
    "transfer": "attention",
    "attention": "attention",
    "queries": "relation",
    "keys": "relation",
    "values": "relation",
    "sample": "relation",
    "flow": "relation",
    "contrast": "relation",
    "rows": "relation",
    "similarity": "relation",
    "distance": "relation",
    "angle": "relation",
}
"""Term of a loss -> the kind of knowledge it carries, which has one colour on every page."""

SEQUENTIAL = "Cividis"
"""Attention, similarity and distance: one hue order from dark to light, readable in grey."""

DIVERGING_LIGHT: list[tuple[float, str]] = [
    (0.0, "#1E4E9C"), (0.25, "#86B0E0"), (0.5, "#FAFAFA"), (0.75, "#E0A076"), (1.0, "#8C3A0B"),
]  # fmt: skip
DIVERGING_DARK: list[tuple[float, str]] = [
    (0.0, "#8CC0FF"), (0.25, "#3B6AA8"), (0.5, "#16191F"), (0.75, "#A8602F"), (1.0, "#FFB27A"),
]  # fmt: skip


GAINED, LOST = ("#0F766E", "#2DD4BF"), ("#B45309", "#F5B041")
"""What one model has over another and what it lacks: two hues that stay apart under colour-blind vision."""


def diverging(dark: bool) -> list[tuple[float, str]]:
    """Blue below zero, neutral at zero, brown above; the middle is the page's own colour."""
    return DIVERGING_DARK if dark else DIVERGING_LIGHT


def root(name: str, points: int = 33) -> list[tuple[float, str]]:
    """A named colour scale that goes by the square root: the lowest tenth of the values has a third of the colours.

    >>> root("Cividis")[0] == (0.0, "rgb(0, 34, 78)")
    True
    """
    places = [(index / (points - 1)) ** 2 for index in range(points)]
    return [(place, color) for place, color in zip(places, sample_colorscale(name, points), strict=True)]


def teacher(dark: bool) -> Style:
    """The neutral look of teachers."""
    color = _TEACHER_DARK if dark else TEACHER.color
    return Style(TEACHER.key, TEACHER.label, TEACHER.family, color, TEACHER.dash, TEACHER.marker, TEACHER.width)


@cache
def style(method: str, dark: bool = False) -> Style:
    """The look of a method, the same on every page.

    A method that is not installed (a run from elsewhere) is drawn in neutral grey under its own key.
    """
    family, label, place = _identity(method)
    color = FAMILIES.get(family, _UNKNOWN)[dark]
    if family == "none":
        return Style(method, label, family, color, *BASELINE)
    if family == "unknown":
        return Style(method, label, family, color, *UNKNOWN)
    return Style(method, label, family, color, _DASHES[place % len(_DASHES)], _MARKERS[place % len(_MARKERS)])


def term_looks(names: Sequence[str], dark: bool = False) -> dict[str, tuple[str, str]]:
    """Term of a run's loss -> colour and dash: the colour of what it matches, a dash of its own among terms of that.

    A term that is not in `TERM_FAMILIES` has the next of the colours without a meaning.

    >>> term_looks(["hard", "soft"])["soft"]
    ('#0228FD', 'solid')
    """
    looks, seen = {}, dict.fromkeys(FAMILIES, 0)
    for index, name in enumerate(names):
        family = TERM_FAMILIES.get(name)
        if family is None:
            looks[name] = term_color(index, dark), "solid"
            continue
        looks[name] = FAMILIES[family][dark], _TERM_DASHES[seen[family] % len(_TERM_DASHES)]
        seen[family] += 1
    return looks


def term_color(index: int, dark: bool = False) -> str:
    """The n-th of the colours without a meaning."""
    return TERM_COLORS[index % len(TERM_COLORS)][dark]


def with_opacity(color: str, opacity: float) -> str:
    """`#RRGGBB` as an rgba() string."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def _identity(method: str) -> tuple[str, str, int]:
    """Family, label and place among all methods but the baseline; those from outside come last and move no other."""
    methods = catalog()
    if method not in methods:
        return "unknown", title_of(method), 0
    order = sorted(methods, key=lambda key: methods[key].source is not None)
    others = [key for key in order if methods[key].family != "none"]
    family = methods[method].family
    return family, title_of(method), 0 if family == "none" else others.index(method)
