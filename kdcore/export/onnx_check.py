"""What was measured of an ONNX file beside the student it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kdcore.formatting import hundredfold


@dataclass(frozen=True, kw_only=True)
class OnnxCheck:
    """rows: how many were compared, and `source` which. largest: difference of two logits. same: share of rows whose
    answer is the same. tolerance: the largest difference that passes.

    int8, int8_same: scores of the file with weights of 8 bits (split -> metric -> value; empty where there is no such
    file, or no rows to score it on), and the share of its answers that are the student's.
    """

    source: str
    rows: int
    largest: float
    tolerance: float
    same: float
    opset: int
    versions: Mapping[str, str]
    int8: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    int8_same: float | None = None

    def sentence(self) -> str:
        """What the check found, for people."""
        return (
            f"model.onnx: on {self.rows:,} {self.source} no output differs by more than {self.largest:.1g} "
            f"(allowed: {self.tolerance:g})"
        )

    def int8_sentence(self) -> str:
        """The same of the file with 8-bit weights; empty where there is none."""
        if self.int8_same is None:
            return ""
        scored = [
            f"{metric} {hundredfold(value)} on {split}" for split, values in self.int8.items()
            for metric, value in values.items()
        ]  # fmt: skip
        return f"model-int8.onnx: {100 * self.int8_same:.1f} % of the answers are the same; " + (
            ", ".join(scored) or "not scored, since the task's rows are not here"
        )

    def lines(self, int8_alone: bool = False) -> Iterator[str]:
        """The part of the model card about the ONNX files. int8_alone: the other one is not in the folder."""
        yield "ONNX. " if int8_alone else f"ONNX, {self.sentence()}. "
        yield "Inputs: input\\_ids, attention\\_mask, token\\_type\\_ids (int64, batch × tokens); output: logits.\n"
        if words := self.int8_sentence():
            yield f"With 8-bit weights, {words}.\n"

    def data(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)
