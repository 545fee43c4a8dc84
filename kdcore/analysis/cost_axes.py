"""What a model can cost, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass

from kdcore.analysis.pareto import Better
from kdcore.formatting import size

MIB = 2**20


@dataclass(frozen=True)
class Axis:
    """A cost.

    key: in readings and addresses. title: of its box. words: of the axis, {length} is how long the rows are.
    best: what the one of least cost is called. unit: after a number in a sentence. si: large numbers as 1k, 1M.
    bound: unit of a bound that a person types, scale: how many of the axis's own units that is.
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

    @property
    def timed(self) -> bool:
        """Whether it was taken with a clock."""
        return self.best == "fastest"

    @property
    def comparative(self) -> str:
        """What the one of less cost is called beside another: `faster`."""
        return self.best.removesuffix("est") + "er"

    def meets(self, cost: float, bound: float | None) -> bool:
        """Whether a cost keeps to a bound, in the axis's own unit; None bounds nothing."""
        return bound is None or (cost <= bound if self.better == "less" else cost >= bound)

    def number(self, value: float) -> str:
        """A value in words, with its unit."""
        if self.unit == "MiB":
            return size(value * MIB)
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        return f"{shown} {self.unit}"


AXES: dict[str, Axis] = {
    axis.key: axis
    for axis in (
        Axis(
            "latency-1", "Latency, batch 1", "Latency per row (ms, batch 1, {length}, median)", "fastest",
            "ms a row", "ms a row",
        ),
        Axis(
            "latency-1-p90", "Latency, batch 1, p90",
            "Latency per row (ms, batch 1, {length}, 9 of 10 passes are faster)", "fastest", "ms a row (p90)",
            "ms a row",
        ),
        Axis(
            "latency-32", "Latency, batch 32", "Latency per batch (ms, batch 32, {length}, median)", "fastest",
            "ms a batch of 32", "ms a batch",
        ),
        Axis(
            "latency-32-p90", "Latency, batch 32, p90",
            "Latency per batch (ms, batch 32, {length}, 9 of 10 passes are faster)", "fastest",
            "ms a batch of 32 (p90)", "ms a batch",
        ),
        Axis(
            "throughput", "Throughput", "Rows per second (batch 32, {length})", "fastest", "rows a second",
            "rows a second", better="more", si=True,
        ),
        Axis(
            "parameters", "Parameters", "Parameters of the exported model", "smallest", "parameters",
            "million parameters", 1e6, si=True,
        ),
        Axis(
            "flops", "FLOPs", "Operations per row (FLOPs, {length})", "cheapest", "operations a row",
            "million operations a row", 1e6, si=True,
        ),
        Axis("disk", "Size on disk", "Weights of the exported model on disk (MiB)", "smallest", "MiB", "MiB"),
    )
}  # fmt: skip
