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
    """

    key: str
    title: str
    words: str
    best: str
    unit: str
    better: Better = "less"
    si: bool = False

    @property
    def timed(self) -> bool:
        """Whether it was taken with a clock."""
        return self.best == "fastest"

    def number(self, value: float) -> str:
        """A value in words, with its unit."""
        if self.unit == "MiB":
            return size(value * MIB)
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        return f"{shown} {self.unit}"


AXES: dict[str, Axis] = {
    axis.key: axis
    for axis in (
        Axis("latency-1", "Latency, batch 1", "Latency per row (ms, batch 1, {length}, median)", "fastest", "ms a row"),
        Axis(
            "latency-32", "Latency, batch 32", "Latency per batch (ms, batch 32, {length}, median)", "fastest",
            "ms a batch of 32",
        ),
        Axis(
            "throughput", "Throughput", "Rows per second (batch 32, {length})", "fastest", "rows a second",
            better="more", si=True,
        ),
        Axis("parameters", "Parameters", "Parameters of the exported model", "smallest", "parameters", si=True),
        Axis("flops", "FLOPs", "Operations per row (FLOPs, {length})", "cheapest", "operations a row", si=True),
        Axis("disk", "Size on disk", "Weights of the exported model on disk (MiB)", "smallest", "MiB"),
    )
}  # fmt: skip
