"""What a model can cost, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kdcore.analysis.pareto import Better

MIB = 2**20

Kind = Literal["time", "energy", "memory", "size"]
"""size: follows from the model alone. The others were measured on a machine, at a length and a precision."""


@dataclass(frozen=True)
class Axis:
    """A cost.

    key: in readings and addresses. title: of its box. words: of the axis, {length} is how long the rows are.
    best: what the one of least cost is called. unit: after a number in a sentence. si: large numbers as 1k, 1M.
    bound: unit of a bound that a person types, scale: how many of the axis's own units that is. kind: how it is known.
    """

    key: str
    title: str
    words: str
    best: str
    unit: str
    bound: str
    scale: float = 1.0
    better: Better = "less"
    si: bool = False
    kind: Kind = "size"

    @property
    def timed(self) -> bool:
        """Whether it was taken with a clock."""
        return self.kind == "time"

    @property
    def in_turn(self) -> bool:
        """Whether models took turns: other work disturbs it, and only models of one session are set in a ratio."""
        return self.kind in ("time", "energy")

    @property
    def comparative(self) -> str:
        """What the one of less cost is called beside another: `faster`."""
        return self.best.removesuffix("est") + "er"

    def meets(self, cost: float, bound: float | None) -> bool:
        """Whether a cost keeps to a bound, in the axis's own unit; None bounds nothing."""
        return bound is None or (cost <= bound if self.better == "less" else cost >= bound)

    def number(self, value: float) -> str:
        """A value in words, with its unit."""
        if self.unit == "MiB" and value < 0.995:
            return f"{1024 * value:.3g} KiB"
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        return f"{shown} {self.unit}"


AXES: dict[str, Axis] = {
    axis.key: axis
    for axis in (
        Axis(
            "latency-1", "Latency, batch 1", "Latency per row (ms, batch 1, {length}, median)", "fastest",
            "ms a row", "ms a row", kind="time",
        ),
        Axis(
            "latency-1-p90", "Latency, batch 1, p90",
            "Latency per row (ms, batch 1, {length}, 9 of 10 passes are faster)", "fastest", "ms a row (p90)",
            "ms a row", kind="time",
        ),
        Axis(
            "latency-32", "Latency, batch 32", "Latency per batch (ms, batch 32, {length}, median)", "fastest",
            "ms a batch of 32", "ms a batch", kind="time",
        ),
        Axis(
            "latency-32-p90", "Latency, batch 32, p90",
            "Latency per batch (ms, batch 32, {length}, 9 of 10 passes are faster)", "fastest",
            "ms a batch of 32 (p90)", "ms a batch", kind="time",
        ),
        Axis(
            "throughput", "Throughput", "Rows per second (batch 32, {length})", "fastest", "rows a second",
            "rows a second", better="more", si=True, kind="time",
        ),
        Axis(
            "energy-1", "Energy, batch 1", "Energy per row (mJ, batch 1, {length})", "thriftiest", "mJ a row",
            "mJ a row", kind="energy",
        ),
        Axis(
            "energy-32", "Energy, batch 32", "Energy per row (mJ, batch 32, {length})", "thriftiest",
            "mJ a row (batch 32)", "mJ a row", kind="energy",
        ),
        Axis(
            "memory-1", "Memory, batch 1", "Memory while answering (MiB, batch 1, {length})", "leanest", "MiB", "MiB",
            kind="memory",
        ),
        Axis(
            "memory-32", "Memory, batch 32", "Memory while answering (MiB, batch 32, {length})", "leanest", "MiB",
            "MiB", kind="memory",
        ),
        Axis("disk", "Size on disk", "Weights of the exported model on disk (MiB)", "smallest", "MiB", "MiB"),
        Axis(
            "parameters", "Parameters", "Parameters of the exported model", "smallest", "parameters",
            "million parameters", 1e6, si=True,
        ),
        Axis(
            "flops", "FLOPs", "Operations per row (FLOPs, {length})", "cheapest", "operations a row",
            "million operations a row", 1e6, si=True,
        ),
    )
}  # fmt: skip
