"""Pairs of layers as lines over the training steps."""

from __future__ import annotations

from collections.abc import Iterable

from kdcore.analysis.layer_distances import LayerTrajectory
from kdcore.figures.layer_pair import Line


def layer_lines(
    trajectory: LayerTrajectory,
    teacher: str,
    measure: str,
    pairs: Iterable[tuple[int, int]],
    prefix: str = "",
    beside: bool = False,
) -> list[Line]:
    """The pairs that both models have; none where the run has only one snapshot, or the measure no meaning.

    Args:
        pairs: student and teacher layer. prefix: of each line's name. beside: whether it is the second run of a plot.
    """
    steps, (teacher_depth, student_depth) = trajectory.steps(teacher), trajectory.depths(teacher)
    if len(steps) < 2 or not trajectory.applies(teacher, measure):
        return []
    return [
        Line(f"{prefix}{s} ↔ {t}", steps, trajectory.values(teacher, measure, s, t), number, beside)
        for number, (s, t) in enumerate(pairs)
        if s < student_depth and t < teacher_depth
    ]
