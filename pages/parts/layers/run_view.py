"""What the page Layers draws of one run."""

from __future__ import annotations

from dataclasses import dataclass

from kdcore.analysis.layer_distances import LayerTrajectory, Matrices
from kdcore.layer_map import LayerMap
from pages.parts.common.snapshot_slider import moment_text


@dataclass(frozen=True)
class RunView:
    """One run at one moment against one of its teachers. suffix: tells its figures from those of the run beside it."""

    trajectory: LayerTrajectory
    teacher: str
    moment: str
    suffix: str = ""

    @property
    def matrices(self) -> Matrices:
        return self.trajectory.moments[self.moment][self.teacher]

    @property
    def shape(self) -> tuple[int, ...]:
        """Teacher layers + 1, student layers + 1."""
        return self.matrices["cka"].shape

    @property
    def name(self) -> str:
        return self.trajectory.row.name

    @property
    def moment_text(self) -> str:
        return moment_text(self.moment)

    @property
    def layer_map(self) -> LayerMap:
        return self.trajectory.layer_map(self.teacher)

    @property
    def zoom_key(self) -> str:
        """Zoom stays while this does."""
        return f"{self.trajectory.row.id} {self.teacher}"

    def has_pair(self, student: int, teacher: int) -> bool:
        """Whether both models are that deep."""
        return teacher < self.shape[0] and student < self.shape[1]
