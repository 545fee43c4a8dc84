"""Teacher layer by student layer: how far apart the hidden states are, with the layers a method matched outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from kdcore.figures import palette
from kdcore.figures.template import INK, frame

MEASURES: dict[str, tuple[str, str]] = {
    "cka": ("Linear CKA (0 to 1)", "1: the same up to rotation and scale, 0: unrelated"),
    "cosine": ("Cosine distance (0 to 2)", "1 - cos of the states; 0: the same direction"),
    "mse": ("Squared distance (in variances)", "over the teacher's variance; 0: the same, 1: no better than its mean"),
}
"""Measure -> title with its range, and how to read it."""


def matrix(
    values: ArrayLike, measure: str, layer_map: Mapping[int, int] | None = None, dark: bool = False
) -> go.Figure:
    """One measure as a heat map, student layers from bottom up, teacher layers from left to right, 0 = embeddings.

    Args:
        values: [teacher layers + 1, student layers + 1]. layer_map: student layer -> teacher layer, outlined.
    """
    z = np.asarray(values, dtype=np.float64).T
    title, _ = MEASURES.get(measure, (measure, ""))
    students, teachers = z.shape
    figure = frame(
        "Teacher layer (0 = embeddings)",
        "Student layer (0 = embeddings)",
        dark=dark,
        height=120 + 44 * max(4, students),
        title=title,
    )
    figure.add_trace(
        go.Heatmap(
            z=z,
            x=list(range(teachers)),
            y=list(range(students)),
            xgap=2,
            ygap=2,
            colorscale=_scale(measure),
            **_range(measure, z),
            text=[[_number(value) for value in row] for row in z],
            texttemplate="%{text}" if z.size <= 200 else None,
            hovertemplate="student layer %{y}, teacher layer %{x}<br>%{z:.3f}<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0, "tickfont": {"color": INK[dark]}},
        )
    )
    for student, teacher in (layer_map or {}).items():
        figure.add_shape(
            type="rect",
            x0=teacher - 0.5,
            x1=teacher + 0.5,
            y0=student - 0.5,
            y1=student + 0.5,
            line={"color": "#E11D48", "width": 3},
        )
    figure.update_xaxes(dtick=1, showgrid=False)
    figure.update_yaxes(dtick=1, showgrid=False)
    return figure


def nearest(values: ArrayLike, measure: str) -> list[tuple[int, int, float]]:
    """For each student layer: the teacher layer most alike and the value there. values: [teacher + 1, student + 1]."""
    z = np.asarray(values, dtype=np.float64)
    out = []
    for student in range(z.shape[1]):
        column = z[:, student]
        if not np.isfinite(column).any():
            continue
        best = int(np.nanargmax(column) if measure == "cka" else np.nanargmin(column))
        out.append((student, best, float(column[best])))
    return out


def map_words(layer_map: Mapping[int, int], matched: Sequence[str] = ()) -> str:
    """The layer map as a sentence."""
    if not layer_map:
        return "This method matches no layers: it reads the teacher's answers alone."
    pairs = ", ".join(f"{student} ← {teacher}" for student, teacher in sorted(layer_map.items()))
    what = f" ({', '.join(matched)})" if matched else ""
    return f"Student layer ← teacher layer{what}: {pairs}."


def _scale(measure: str) -> str:
    return palette.SEQUENTIAL if measure == "cka" else f"{palette.SEQUENTIAL}_r"


def _range(measure: str, z: np.ndarray) -> dict[str, float]:
    if measure == "cka":
        return {"zmin": 0.0, "zmax": 1.0}
    return {"zmin": 0.0, "zmax": max(1e-9, float(np.nanmax(z, initial=0.0)))}


def _number(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:.2f}"
