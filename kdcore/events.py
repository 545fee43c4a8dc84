"""What a run reports while it trains. The trainer yields these; the store, the pages and the command line read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunStarted:
    """facts: versions, device, threads, precision, rows, steps, parameters, teachers and their scores."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Progress:
    """A long pass that is not a training step: fine-tuning a teacher, filling the cache, scoring."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class StageStarted:
    stage: str
    index: int
    first_step: int
    steps: int
    pilot: bool = False


@dataclass(frozen=True)
class StepDone:
    """One logged step. `step` counts from 1 over the whole run, stages included.

    loss: the weighted sum. raw, weighted: term -> value (nats, or squared units; each method's docstring says).
    seconds: since the run started, without pauses. gradient_share: term -> share of the gradient norm, when sampled.
    notes: the method's plottable read-outs (teacher draws, weights).
    """

    stage: str
    step: int
    steps: int
    epoch: float
    loss: float
    raw: Mapping[str, float]
    weighted: Mapping[str, float]
    lr: float
    examples_per_second: float
    seconds: float
    gradient_norm: float
    gradient_share: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)

    def values(self) -> list[tuple[str, str, float]]:
        """All that was logged: kind, name, value."""
        groups = {
            "raw": self.raw, "weighted": self.weighted, "gradient_share": self.gradient_share, "note": self.notes,
        }  # fmt: skip
        return [
            ("loss", "loss", self.loss), ("lr", "lr", self.lr), ("gradient_norm", "gradient_norm", self.gradient_norm),
            ("speed", "examples_per_second", self.examples_per_second),
            *((kind, name, value) for kind, group in groups.items() for name, value in group.items()),
        ]  # fmt: skip


@dataclass(frozen=True)
class Evaluated:
    """Scores of a model on a split. which: "last" while training, "best" or "last" at the end for the student;
    "teacher:" and a teacher's name; "learner:" and a role or a mean of several (`Method.learners`).

    split: "select" (a part of the training rows, used for every decision), "validation" or GLUE's other dev splits.
    scores: metric -> value (0..1, correlations -1..1).
    """

    stage: str
    step: int
    split: str
    which: str
    scores: Mapping[str, float]
    rows: int


@dataclass(frozen=True)
class Probed:
    """The result of a probe at a step: name -> JSON-able data."""

    name: str
    step: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpointed:
    stage: str
    step: int


@dataclass(frozen=True)
class RunFinished:
    """summary: final scores by split and which, seconds, cost of each part, predicted against taken."""

    summary: Mapping[str, Any]


@dataclass(frozen=True)
class RunStopped:
    """A stop was asked for. kept: whether the student was saved; why_not: a reason beside the person's own wish."""

    step: int
    kept: bool
    summary: Mapping[str, Any] = field(default_factory=dict)
    why_not: str = ""


@dataclass(frozen=True)
class RunFailed:
    """reason: one sentence; remedy: what to do; detail: the last lines of the traceback."""

    reason: str
    remedy: str
    detail: str = ""


Event = (
    RunStarted
    | Progress
    | StageStarted
    | StepDone
    | Evaluated
    | Probed
    | Checkpointed
    | RunFinished
    | RunStopped
    | RunFailed
)
