"""What was measured on one axis in one place: the models' points, and how they compare within a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kdcore.analysis import cost_points as costs
from kdcore.analysis.cost_axes import Axis
from kdcore.analysis.cost_table import TOKENS, WORDS

BESIDE = {
    "latency-1": "ms a row",
    "memory-1": "memory (MiB)",
    "disk": "size on disk (MiB)",
    "energy-1": "energy (mJ a row)",
    WORDS: "parameters in word embeddings (%)",
    TOKENS: "tokens a row",
}
"""Costs that the table of numbers has whichever one is drawn -> title of their column."""


@dataclass(frozen=True)
class Measured:
    """Args: points: one row per run or model, as `cost_points` gives them. condition: what they were measured on.
    length: of the rows, in words. on_axis: readings of the axis; where, lengths (task -> length): of the condition.
    sizes: group -> sizes of its students. beside: label -> what the models cost on `BESIDE`, under the same condition.
    """

    points: pd.DataFrame
    condition: str
    length: str
    on_axis: pd.DataFrame
    where: str
    lengths: Mapping[str, str]
    sizes: Mapping[str, set[str]]
    beside: pd.DataFrame

    def ratio(self, group: str, other: str) -> tuple[float, bool] | None:
        """See `cost_points.speed_ratio`; of a group's students."""
        return costs.speed_ratio(self.on_axis, self.where, self.lengths, self.sizes.get(group, set()), other)


def read(
    table: pd.DataFrame,
    axis: Axis,
    option: tuple[str, tuple[str, str | None]],
    runs: pd.DataFrame,
    tasks: tuple[str, ...],
) -> Measured:
    """Args: table: see `cost_table`. option: one of `cost_points.conditions`, with its words."""
    condition, (where, length) = option
    on_axis, sizes = table[table["axis"] == axis.key], costs.student_sizes(table)
    if length is None:
        points = costs.task_means(on_axis, where, runs, sizes, tasks)
        known = costs.lengths(on_axis[on_axis["place"] == where])
        lengths = {task: known.get(task, "") for task in tasks}
    else:
        points, lengths = costs.of_task(on_axis, where, length, runs, sizes), dict.fromkeys(tasks, length)
    of_group = {
        str(group): {sizes[run] for run in members["id"] if run in sizes} for group, members in runs.groupby("group")
    }
    beside = costs.costs_beside(table, where, lengths, list(BESIDE))
    drawn = table[table["label"].isin(points["label"])]
    words = "each task at its mean length" if length is None else costs.length_text(length, drawn)
    return Measured(points, condition, words, on_axis, where, lengths, of_group, beside)
